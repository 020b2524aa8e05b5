"""`pipe(prompt, image=..., mask_image=...)`: inpainting from Python, by what scripts/inpaint.py does.

Shape letters: N results, H W pixels of the picture, C channels: grey, RGB, or RGBA.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from glide.utils.images import from_uint8
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.callbacks import Watch
from toolkit.pipelines.image_arguments import Read, read_pictures
from toolkit.pipelines.inpaint import inpaint, plan
from toolkit.pipelines.inpaint_original import Original
from toolkit.pipelines.mask_files import mask_of_picture
from toolkit.pipelines.settings import DEFAULT_CONTEXT, SamplingConfig


def painted(
    pipe: BasePipeline,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    watch: Watch,
    images: Sequence[Read],
    mask_image: object,
) -> tuple[Tensor, list[dict[str, Any]]]:
    """Results [N,C,H,W] from -1 to 1, and their recipes. InputError for several images or masks, or a mask that does
    not fit."""
    masks = read_pictures(mask_image, "mask_image")
    if len(images) != 1 or len(masks) != 1:
        raise InputError(
            f"got {len(images)} pictures and {len(masks)} masks, expected one of each: call the pipeline for each"
        )
    image, mask = images[0], masks[0]
    unknown = mask_of_picture(mask.picture, mask.path or "mask_image", image.picture.size)
    how = plan(pipe, unknown, settings, context=DEFAULT_CONTEXT)
    original = Original(image.picture, image.grey, image.sha256)
    run = pipe.for_run(len(pictures))
    with watch.run(run.steps(how.settings)):
        found = inpaint(run, original.shown, unknown, pictures, how, on_step=watch)
    results = np.stack([original.with_painted(rgb, unknown) for rgb in found])
    if results.shape[-1] == 2:  # tensors have no form of grey with alpha
        results = results[..., [0, 0, 0, 1]]
    # what inpaint.py can repeat: pictures in files, and steps that begin with noise
    repeatable = image.path and mask.path and settings.strength == 1.0
    edit = {
        "made_by": "inpaint.py" if repeatable else "Python",
        **image.recipe("image"),
        **mask.recipe("mask"),
    }
    edit |= {"invert_mask": False, "context": DEFAULT_CONTEXT, **how.recipe()}
    recipes = [edit | run.recipe(one, how.settings, place) | watch.mark for place, one in enumerate(pictures)]
    return from_uint8(torch.from_numpy(results)), recipes
