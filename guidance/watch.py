"""Progress pictures of a model in training: always the same captions or classes, from the same noise.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.errors import warn
from glide.images import grid, save_png, to_float, to_uint8
from glide.model import Model
from guidance.conditions import NOTHING_GIVEN, Given, Picture
from guidance.loop import NotFinite
from guidance.pipeline import Pipeline
from guidance.settings import Settings

GREY = 0.0  # what a masked pixel is shown as


def sample_grid(model: Model, path: Path, captions: Sequence[str], scale: float = 3.0) -> None:
    """Draw two pictures of each caption (or of the first classes) in 25 steps and write them as one PNG."""
    # a copy: drawing freezes its weights, and rounds them
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    config = model.config
    prompts = list(captions) if config.text is not None else None
    labels = list(range(min(8, config.num_classes))) if config.num_classes else None
    try:
        result = pipe(
            prompts,
            label=labels,
            guidance_scale=scale if pipe.conditions.has_null else 1.0,
            num_inference_steps=25,
            num_images_per_prompt=2 if prompts or labels else 16,
            seed=0,
        )
    except NotFinite as error:  # of a run that diverges, which has means of its own against that
        warn(f"no progress pictures: {error}")
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, grid(to_uint8(result.tensors), columns=8))


def fill_grid(model: Model, path: Path, batch: Mapping[str, Any], scale: float = 3.0) -> None:
    """Four columns: pictures, the same masked, what the model fills in, and what it draws where all is unknown.

    batch: image [N,3,H,W], inpaint_mask [N,1,H,W] (1 is known), and caption or y, as in training. Drawn
    in 25 steps and written as one PNG.
    """
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    image, mask = to_float(batch["image"]).cpu(), batch["inpaint_mask"].cpu()
    captions = batch["caption"] if model.config.text is not None else [""] * len(image)
    labels = batch["y"].tolist() if model.config.num_classes else [None] * len(image)
    settings = Settings("ddim", "25", 0.0, *(("cfg", scale) if pipe.conditions.has_null else ("none",)))

    def draw(given: Sequence[Given]) -> Tensor:
        told = zip(captions, labels, given, strict=True)
        *_, last = pipe.draw([Picture(i, *of_one) for i, of_one in enumerate(told)], settings)
        return last.x.cpu()

    try:
        filled = draw([Given(image=one, mask=known) for one, known in zip(image, mask, strict=True)])
        free = draw([NOTHING_GIVEN] * len(image))
    except NotFinite as error:
        warn(f"no progress pictures: {error}")
        return
    columns = [image, image * mask + GREY * (1 - mask), filled, free]
    sheet = torch.stack(columns, dim=1).flatten(0, 1)  # [4N,3,H,W]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, grid(to_uint8(sheet), columns=4))
