"""Progress pictures of a model in training: always the same captions or classes, from the same noise."""

from __future__ import annotations

import copy
from pathlib import Path

import torch

from glide.images import grid, save_png, to_uint8
from glide.model import Model
from guidance.pipeline import Pipeline

CAPTIONS = (
    "a red circle",
    "a small green star in the top left corner",
    "three blue squares",
    "a large yellow heart on a dark blue background",
    "a large red circle to the left of a small blue square",
    "a white ring above a purple cross",
    "two small orange triangles on a black background",
    "a small pink star inside a large cyan circle",
)
"""Of the built-in scenes; a model of other pictures is watched with `captions`."""


def sample_grid(model: Model, path: Path, captions: tuple[str, ...] = CAPTIONS, scale: float = 3.0) -> None:
    """Draw two pictures of each caption (or of the first classes) in 25 steps and write them as one PNG."""
    pipe = Pipeline(copy.deepcopy(model), dtype=torch.bfloat16)  # a copy: drawing freezes its weights
    config = model.config
    prompts = list(captions) if config.text is not None else None
    labels = list(range(min(8, config.num_classes))) if config.num_classes else None
    result = pipe(
        prompts,
        label=labels,
        guidance_scale=scale if pipe.conditions.has_null else 1.0,
        num_inference_steps=25,
        num_images_per_prompt=2 if prompts or labels else 16,
        seed=0,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, grid(to_uint8(result.tensors), columns=8))
