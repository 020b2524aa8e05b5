"""Inpainting of a picture of any size: the masked part is repainted, all else stays as it is, bit for bit.

    pipe = Pipeline.from_pretrained("shapes")
    how = plan(pipe, unknown, SamplingConfig())
    new = inpaint(pipe, photo, unknown, [ImageRequest(seed=0, caption="a red ring")], how)

Shape letters: N results, H W pixels of the picture, s side of the model's pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.errors import InputError
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.inpaint_region import (
    Bytes,
    Region,
    Unknown,
    default_feather,
    pasted,
    region_around,
    shown,
)
from toolkit.pipelines.output import Step
from toolkit.pipelines.settings import DEFAULT_CONTEXT, SamplingConfig
from toolkit.pipelines.upscale import InpaintUpscaler

METHODS = ("model", "repaint", "replace")
JUMP, RESAMPLINGS = 5, 10  # of RePaint; 10 and 10 there, in 250 steps


@dataclass(frozen=True)
class Plan:
    """A plan for inpainting: region, method and settings."""

    region: Region
    method: str
    settings: SamplingConfig
    feather: int
    """Pixels of the picture over which the mask's border is blended, inside it."""
    small: int
    """Side of the model's pictures."""
    final: int
    """Side of the last stage's."""

    def recipe(self) -> dict[str, Any]:
        """JSON-able."""
        region = [self.region.left, self.region.top, self.region.side]
        return {"method": self.method, "region": region, "feather": self.feather, "painted_at": self.final}


def plan(
    pipe: BasePipeline,
    unknown: Unknown,
    settings: SamplingConfig,
    method: str | None = None,
    context: float = DEFAULT_CONTEXT,
    feather: int | None = None,
    enlarge: InpaintUpscaler | None = None,
) -> Plan:
    """Plan the painting of the pixels that are `unknown` [H,W].

    method: "model" (the model's own inpainting planes; the default where it has them), "repaint" (2201.09865; the
    default for all others; settings without resamplings get the usual ones) or "replace" (known pixels put back at
    each step). context: how much of the picture is looked at, in lengths of what is masked. feather: None is as wide
    as one of the model's pixels. InputError for a mask of nothing or of everything, and for a method that does not fit
    the model or the settings.
    """
    check_mask(unknown)
    if (channels := pipe.model.config.picture_channels) != 3:
        raise InputError(
            f"got a model of {channels} channels, expected one for RGB pictures, which has 3: choose another model"
        )
    has_planes = pipe.model.config.inpaint
    method = method or ("model" if has_planes else "repaint")
    if method not in METHODS:
        raise InputError(f"got the method {method!r}, expected {' or '.join(METHODS)}: choose one of these")
    if method == "model" and not has_planes:
        raise InputError(
            "got the method 'model' for a model without inpainting planes, expected one trained to inpaint: choose "
            "the method repaint, or another model"
        )
    if pipe.model.config.low_res:
        raise InputError(
            "got an upsampler to paint with, expected a base model: give the upsampler as the second stage"
        )
    if not context >= 1.0:
        raise InputError(f"got the context {context:g}, expected at least 1, the mask itself: try 3")
    if feather is not None and feather < 0:
        raise InputError(
            f"got a border of {feather} pixels, expected at least 0: leave it out for the usual one"
        )
    if method == "repaint" and settings.resamplings == 1:
        most = len(pipe.process(settings)) - 1  # steps that can be taken back
        settings = replace(settings, jump=min(JUMP, max(most, 1)), resamplings=RESAMPLINGS if most else 1)
    elif method != "repaint" and settings.resamplings > 1:
        raise InputError(
            f"got resamplings for the method {method!r}, expected them with repaint: leave them out"
        )
    small = pipe.model.config.picture_size
    final = small if enlarge is None else enlarge.size
    region = region_around(unknown, final, context)
    width = default_feather(region, final) if feather is None else feather
    return Plan(region, method, settings, width, small, final)


def check_mask(unknown: Unknown) -> None:
    """InputError for one that covers nothing, or everything."""
    if not unknown.any():
        raise InputError(
            "the mask covers nothing, expected white where the picture is to be repainted: check it, or invert it"
        )
    if unknown.all():
        raise InputError(
            "the mask covers the whole picture, expected a part of it to stay: check it, invert it, or draw a new "
            "picture with sample.py"
        )


def inpaint(
    pipe: BasePipeline,
    rgb: Bytes,
    unknown: Unknown,
    pictures: Sequence[ImageRequest],
    plan: Plan,
    enlarge: InpaintUpscaler | None = None,
    on_step: Callable[[Step], object] = lambda step: None,
    place: int = 0,
) -> list[Bytes]:
    """N pictures uint8 [H,W,3], as `rgb` is, repainted where `unknown` [H,W] is true, as `plan` says.

    pictures: seed, caption and class of each result. enlarge: the second stage; without it what the model paints is
    scaled. on_step: called after each of the model's steps. place: of the first picture in its network call, as of
    `Pipeline.draw`.
    """
    image, known = shown(plan.region, rgb, unknown, plan.small)
    start = None
    if plan.settings.strength < 1.0:  # what is to be painted over is what the run begins with
        start, _ = shown(plan.region, rgb, np.zeros_like(unknown), plan.small)
    given = KnownPixels(image=image, mask=known, visible=plan.method == "model", start=start)
    rows = [replace(picture, given=given) for picture in pictures]
    for step in pipe.draw(rows, plan.settings, place=place, size=(plan.small, plan.small)):
        on_step(step)
    painted: Tensor = step.x.cpu()
    if enlarge is not None:
        image, known = shown(plan.region, rgb, unknown, plan.final)
        painted = enlarge.enlarge(
            painted,
            image=image,
            mask=known,
            captions=[picture.caption for picture in pictures],
            labels=[picture.label for picture in pictures],
            seeds=[picture.seed for picture in pictures],
        )
    return [pasted(rgb, unknown, plan.region, one, plan.feather) for one in painted]
