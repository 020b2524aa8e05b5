"""SSIM, the structural similarity of two pictures (Wang et al. 2004, "Image Quality Assessment").

Shape letters: H W pixels, C channels, R rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
"""Side and deviation in pixels of the Gaussian window."""
K1, K2 = 0.01, 0.03
RANGE = 255.0
"""Of pixels: L in the paper."""
_GAUSSIAN = [math.exp(-((k - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for k in range(WINDOW)]
WEIGHTS = tuple(value / sum(_GAUSSIAN) for value in _GAUSSIAN)
"""Of the window along one side; the window is the product of both."""
BAND = 128
"""Rows of windows that are computed at once, so that a large picture takes little memory."""


def ssim(first: Tensor, second: Tensor) -> float | None:
    """The mean SSIM of two pictures, uint8 [H,W,C], over all windows that lie within them and all channels.

    In double precision, as variances are small differences of large numbers. None for a picture narrower or lower
    than a window, which has no such place.
    """
    assert first.shape == second.shape
    height, width, channels = first.shape
    rows, columns = height - WINDOW + 1, width - WINDOW + 1
    if rows < 1 or columns < 1:
        return None
    total = 0.0
    for top in range(0, rows, BAND):
        part = slice(top, min(top + BAND, rows) + WINDOW - 1)
        total += _map(first[part], second[part]).sum().item()
    return total / (rows * columns * channels)


def _map(first: Tensor, second: Tensor) -> Tensor:
    """SSIM of every window: uint8 [R,W,C] twice -> float64 [C,R-10,W-10], eq. 13."""
    x, y = (one.permute(2, 0, 1).double() for one in (first, second))
    mean_x, mean_y, xx, yy, xy = (_blurred(values) for values in (x, y, x * x, y * y, x * y))
    squares = mean_x**2 + mean_y**2
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (squares + c1)
    return luminance * (2 * (xy - mean_x * mean_y) + c2) / (xx + yy - squares + c2)


def _blurred(x: Tensor) -> Tensor:
    """The mean of every window, weighted by the Gaussian: [C,R,W] -> [C,R-10,W-10]."""
    for dim in (1, 2):
        length = x.shape[dim] - WINDOW + 1
        mean = torch.zeros_like(x.narrow(dim, 0, length))
        for k, weight in enumerate(WEIGHTS):
            mean.add_(x.narrow(dim, k, length), alpha=weight)
        x = mean
    return x
