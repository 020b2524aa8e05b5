"""The second stage of a cascade: a picture of any size, fitted to an upsampler and noised.

Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False)
class Enlargement:
    """A picture that is ready for an upsampler, and what its result is cut to."""

    low_res: Tensor  # [3,h,w] in [-1, 1], noised
    noise: float
    """Standard deviation of its noise, from 0 to below 1."""
    seed: int
    """Of the large picture's noise: another one than that of the stage before."""
    size: tuple[int, int]
    """(H, W) to draw."""
    crop: tuple[int, int]
    """(H, W) to keep of it: its top left."""


def prepare(config: ModelConfig, pixels: Tensor, seed: int, noise: float = 0.0) -> Enlargement:
    """Fit a picture, uint8 [h,w,3] of any size, to an upsampler, and noise it.

    config: of the upsampler. seed: of the picture. noise: standard deviation, from 0 to below 1, of Gaussian noise that
    is added, which hides faults of a drawn picture from the network. InputError for noise out of range, or a picture
    too large.
    """
    if not 0.0 <= noise < 1.0:
        raise InputError(f"got the noise {noise}, expected 0 to below 1: 0 is none, 0.1 is little")
    crop = large_size(config, (pixels.shape[0], pixels.shape[1]))
    low_res = from_uint8(pad_to_network(pixels, config)[None])[0]  # [3,h,w]
    if noise:
        generator = torch.Generator().manual_seed((seed ^ LOW_RES_SALT) % 2**63)
        low_res = add_noise(low_res, noise, torch.randn(low_res.shape, generator=generator))
    size = (low_res.shape[1] * config.scale, low_res.shape[2] * config.scale)
    return Enlargement(low_res, noise, (seed ^ STAGE_SALT) % 2**63, size, crop)


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
