"""Pixels that are given: those of a picture that stay as they are, and what a run begins with.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from glide.diffusion.process import Process
from glide.networks.first_stage import PIXELS, FirstStage
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.errors import InputError


def in_model_space(
    stage: FirstStage, pictures: Sequence[ImageRequest], device: torch.device
) -> list[ImageRequest]:
    """The requests with their known pixels and start pictures as the model draws them: encoded, for latents."""
    if stage is PIXELS:
        return list(pictures)
    done: dict[int, KnownPixels] = {}
    for picture in pictures:
        given = picture.given
        if id(given) not in done:
            done[id(given)] = _encoded(stage, given, device)
    return [replace(picture, given=done[id(picture.given)]) for picture in pictures]


def _encoded(stage: FirstStage, given: KnownPixels, device: torch.device) -> KnownPixels:
    changes: dict[str, Any] = {}
    if given.image is not None and given.mask is not None and stage.shows_pixels and given.visible:
        changes |= {"image": None, "mask": None, "shown": (given.image, given.mask)}
    elif given.image is not None and given.mask is not None:
        image, mask = stage.encode_known(given.image[None].to(device), given.mask[None].to(device))
        changes |= {"image": image[0].cpu(), "mask": mask[0].cpu()}
    if given.start is not None:
        changes["start"] = stage.encode(given.start[None].to(device))[0].cpu()
    return replace(given, **changes)


def known_of(rows: Sequence[ImageRequest], device: torch.device) -> tuple[Tensor, Tensor] | None:
    """The known pixels of N pictures [N,3,H,W] and where they are [N,1,H,W]; None where none is given.

    InputError where only some of the pictures have some.
    """
    if all(row.given.mask is None for row in rows):
        return None
    images, masks = [], []
    for row in rows:
        if row.given.mask is None or row.given.image is None:
            raise InputError(
                "got pictures with and without known pixels, expected all with: give each a mask"
            )
        images.append(row.given.image)
        masks.append(row.given.mask)
    return torch.stack(images).to(device), torch.stack(masks).to(device)


def begin(rows: Sequence[ImageRequest], process: Process, unit: Tensor, strength: float) -> Tensor:
    """The x [N,C,H,W] that a run begins with at the last entry of its process.

    unit: noise of each picture's seed, with which its `start` is noised (SDEdit, 2108.01073); without a start it is
    the beginning itself. A `latent` is at that noise already. InputError where only some pictures have one, or none
    does although the run is to leave out steps.
    """
    starts = [row.given.start for row in rows if row.given.start is not None]
    latents = [row.given.latent for row in rows if row.given.latent is not None]
    if not starts and not latents:
        if strength < 1.0:
            raise InputError(
                f"got the strength {strength:g} without a picture to begin with, expected one: give a picture, or "
                "strength 1"
            )
        return unit
    found = starts or latents
    if len(found) < len(rows) or (starts and latents):
        raise InputError(
            "got pictures with and without one to begin with, expected the same of all: give each one"
        )
    x = torch.stack(found).to(unit)
    if x.shape != unit.shape:
        raise InputError(
            f"got pictures of {x.shape[-1]}x{x.shape[-2]} pixels to begin with, expected "
            f"{unit.shape[-1]}x{unit.shape[-2]}: scale them"
        )
    if latents:
        return x
    last = torch.full((len(x),), len(process) - 1, dtype=torch.int64, device=x.device)
    return process.q_sample(x, last, unit)
