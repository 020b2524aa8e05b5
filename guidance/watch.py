"""Progress pictures of a model in training: always the same captions or classes, from the same noise."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

import torch

from glide.images import grid, save_png, to_uint8
from glide.model import Model
from guidance.pipeline import Pipeline


def sample_grid(model: Model, path: Path, captions: Sequence[str], scale: float = 3.0) -> None:
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
