"""The second stage of a cascade: it enlarges a picture of any size by a given sampling run.

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
from upsampler.low_res import add_noise

STAGE_SALT = 0x9E3779B97F4A7C15  # separates a picture's noise here from that of the base model's picture
LOW_RES_SALT = 0xD1342543DE82EF95


class Step(Protocol):
    """A sampler's state after a step."""

    @property
    def x(self) -> Tensor:
        """[1,3,H,W] from -1 to 1."""


Draw = Callable[[Tensor, float, int, tuple[int, int]], Iterable[Step]]
"""Sampling of a picture of size (H, W) from low_res [3,h,w] at a noise level, with the noise of a seed."""


def enlarge(
    draw: Draw, config: ModelConfig, pixels: Tensor, seed: int, noise: float = 0.0
) -> Iterator[Tensor]:
    """Enlarge a picture, uint8 [h,w,3], `config.scale` times; yields x [1,3,H,W] after each step.

    config: of the upsampler. seed: of the picture; this stage's noise differs from that of the base stage. noise:
    standard deviation, from 0 to below 1, of Gaussian noise that is added first, which hides faults of a drawn picture
    from the network. InputError, before the first step, for noise out of range, or a picture too large.
    """
    if not 0.0 <= noise < 1.0:
        raise InputError(f"got the noise {noise}, expected 0 to below 1: 0 is none, 0.1 is little")
    height, width = large_size(config, (pixels.shape[0], pixels.shape[1]))
    low_res = from_uint8(pad_to_network(pixels, config)[None])[0]  # [3,h',w']
    if noise:
        generator = torch.Generator().manual_seed((seed ^ LOW_RES_SALT) % 2**63)
        low_res = add_noise(low_res, noise, torch.randn(low_res.shape, generator=generator))
    size = (low_res.shape[1] * config.scale, low_res.shape[2] * config.scale)
    steps = draw(low_res, noise, (seed ^ STAGE_SALT) % 2**63, size)
    return _cropped(steps, height, width)


def _cropped(steps: Iterable[Step], height: int, width: int) -> Iterator[Tensor]:
    """x [1,3,height,width] of each step, without keeping the rest of the step in memory."""
    for step in steps:
        x = step.x[..., :height, :width]
        del step
        yield x


def large_size(config: ModelConfig, size: tuple[int, int]) -> tuple[int, int]:
    """The size (H, W) of the enlarged picture of (h, w). InputError if picture readers would refuse it."""
    height, width = size[0] * config.scale, size[1] * config.scale
    most = Image.MAX_IMAGE_PIXELS
    if most and height * width > most:
        raise InputError(
            f"got a picture of {size[1]}x{size[0]} pixels, which enlarged {config.scale} times has more than {most}: "
            "give a smaller one, or cut it up"
        )
    return height, width


def pad_to_network(pixels: Tensor, config: ModelConfig) -> Tensor:
    """A picture, uint8 [h,w,3], padded by reflection at its right and bottom to a size that the network accepts.

    Heights and widths are multiples of a step; and a network that is not local never receives less than its training
    size.
    """
    unet, scale = config.unet, config.scale
    step = unet.factor // math.gcd(unet.factor, scale)
    least = step if unet.local else config.low_res_size
    missing = [max(-(-side // step) * step, least) - side for side in pixels.shape[:2]]
    if not any(missing):
        return pixels
    return torch.from_numpy(np.pad(pixels.numpy(), [(0, missing[0]), (0, missing[1]), (0, 0)], "symmetric"))
