"""The settings of an upsampler's low-resolution pictures. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from glide.utils.errors import InputError
from glide.utils.ranges import check_numbers

Reduction = Literal["area", "bicubic", "lanczos", "rendered"]


@dataclass(frozen=True)
class LowRes:
    """Settings of the low-resolution pictures for training an upsampler."""

    reduce: tuple[Reduction, ...] = ()
    """Methods of reduction, one chosen at random for each picture: area (the mean of each block of pixels), bicubic,
    lanczos, or, for the built-in scenes, rendered (at the low resolution). By default rendered and area for the
    built-in scenes, area for others."""
    noise: tuple[float, float] = (0.0, 0.3)
    """Range of the standard deviation of added Gaussian noise, on which the network is conditioned; 0 0 for none."""
    blur: float = 0.0
    """Largest radius of a Gaussian blur, in pixels of the low-resolution picture, of half of the pictures."""
    jpeg: int = 0
    """Lowest quality, 1 to 95, of JPEG compression of half of the pictures; 0 for none."""
    clean: float = 0.25
    """Share of the pictures without noise, blur and compression."""

    def check(self) -> None:
        """InputError for numbers out of range."""
        check_numbers(self)
        low, high = self.noise
        if not 0.0 <= low <= high < 1.0:
            raise InputError(
                f"got --noise {low:g} {high:g}, expected two rising numbers from 0 to below 1: try 0 0.3"
            )
