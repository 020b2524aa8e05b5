"""The second stage of a cascade: a picture of any size, enlarged by whoever draws.

Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.networks.config import ModelConfig
from glide.utils.errors import InputError
from glide.utils.images import from_uint8
from upsampler.low_res import noised

STAGE = 0x9E3779B97F4A7C15  # sets a picture's noise here apart from that of the base model's picture
LOW_RES = 0xD1342543DE82EF95


class Step(Protocol):
    """What a sampler shows after each step."""

    @property
    def x(self) -> Tensor:
        """[1,3,H,W] from -1 to 1."""


Draw = Callable[[Tensor, float, int, tuple[int, int]], Iterable[Step]]
"""Draws the picture of a size (H, W) that enlarges low_res [3,h,w], noised at a level, by the noise of a seed."""


def enlarge(
    draw: Draw, config: ModelConfig, pixels: Tensor, seed: int, noise: float = 0.0
) -> Iterator[Tensor]:
    """Enlarge a picture, uint8 [h,w,3], `config.scale` times; yields x [1,3,H,W] after each step.

    config: of the upsampler. seed: of the picture; the noise of this stage is another than that of the stage before.
    noise: standard deviation, from 0 to below 1, of Gaussian noise that is added first, which hides faults of a drawn
    picture from the network. InputError, at once, for noise out of range, or a picture too large.
    """
    if not 0.0 <= noise < 1.0:
        raise InputError(f"got the noise {noise}, expected 0 to below 1: 0 is none, 0.1 is little")
    height, width = large_size(config, (pixels.shape[0], pixels.shape[1]))
    low_res = from_uint8(fitted(pixels, config)[None])[0]  # [3,h',w']
    if noise:
        generator = torch.Generator().manual_seed((seed ^ LOW_RES) % 2**63)
        low_res = noised(low_res, noise, torch.randn(low_res.shape, generator=generator))
    size = (low_res.shape[1] * config.scale, low_res.shape[2] * config.scale)
    steps = draw(low_res, noise, (seed ^ STAGE) % 2**63, size)
    return _shown(steps, height, width)


def _shown(steps: Iterable[Step], height: int, width: int) -> Iterator[Tensor]:
    """x [1,3,height,width] of each step, and nothing else of it, which would be held while the next one is made."""
    for step in steps:
        x = step.x[..., :height, :width]
        del step
        yield x


def large_size(config: ModelConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(H, W) that a picture of (h, w) is enlarged to. InputError where no picture reader would read it back."""
    height, width = size[0] * config.scale, size[1] * config.scale
    most = Image.MAX_IMAGE_PIXELS
    if most and height * width > most:
        raise InputError(
            f"got a picture of {size[1]}x{size[0]} pixels, which enlarged {config.scale} times has more than {most}: "
            "give a smaller one, or cut it up"
        )
    return height, width


def fitted(pixels: Tensor, config: ModelConfig) -> Tensor:
    """A picture, uint8 [h,w,3], mirrored on at its right and bottom until the network can take it.

    Its heights and widths go up in steps; and a network that sees a picture as a whole is never shown less than it
    was trained with.
    """
    unet, scale = config.unet, config.scale
    step = unet.factor // math.gcd(unet.factor, scale)
    least = step if unet.local else config.low_res_size
    missing = [max(-(-side // step) * step, least) - side for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return torch.from_numpy(np.pad(pixels.numpy(), [(0, missing[0]), (0, missing[1]), (0, 0)], "symmetric"))
