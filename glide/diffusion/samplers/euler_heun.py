"""One-step solvers of EDM's equation: Euler, Heun and ancestral Euler.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process. The equation, and the coefficients
in which it is computed, are those of `glide.diffusion.samplers.base`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import (
    Noise,
    as_float32,
    correctable,
    denoise_x0,
    eps_from_x0,
    euler_step,
    has_slope_below,
    noise_levels,
)

MAX_SLOPE_SHIFT = 0.5
"""The most by which a long step's correction may shift the slope at its end, as a share of the slope's change."""


@torch.no_grad()
def euler(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """Euler's method on EDM's equation (2206.00364, algorithm 1 without its lines 6 to 8): first order.

    In exact arithmetic it is DDIM without noise.
    """
    x = as_float32(x)
    for here, below in pairwise(noise_levels(process)):
        x = euler_step(x, denoise_x0(denoise, x, here), here, below)
        yield x


@torch.no_grad()
def heun(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """Heun's method on EDM's equation (2206.00364, algorithm 1): second order, 2S - 1 network calls.

    The last step is Euler's, as there, and so is a step from pure noise. A step that is not `correctable` is corrected
    only where the slope at its end hardly moves once x is corrected, for each picture separately: the network is called
    before and after the correction, and the next step begins with the prediction at the side that is taken.
    """
    x = as_float32(x)
    known: Tensor | None = None  # x0 at x, where the last step has predicted it
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here) if known is None else known
        known = None
        slope = eps_from_x0(x, x0, here)
        x = euler_step(x, x0, here, below)
        if has_slope_below(here, below):
            x0_below = denoise_x0(denoise, x, below)
            slope_below = eps_from_x0(x, x0_below, below)
            corrected = x + below.alpha * (below.ratio - here.ratio) * (slope_below - slope) / 2.0
            if correctable(here, below):
                x = corrected
            else:
                x0_corrected = denoise_x0(denoise, corrected, below)
                moved = eps_from_x0(corrected, x0_corrected, below) - slope_below
                taken = _smaller(moved, MAX_SLOPE_SHIFT * (slope_below - slope))
                x, known = torch.where(taken, corrected, x), torch.where(taken, x0_corrected, x0_below)
        yield x


def _smaller(a: Tensor, b: Tensor) -> Tensor:
    """True where the root mean square of a is at most that of b: [N,C,H,W] twice -> bool [N,1,1,1]."""
    rows = [bool(one.norm() <= other.norm()) for one, other in zip(a, b, strict=True)]  # one sum per picture
    return torch.tensor(rows, device=a.device)[:, None, None, None]


@torch.no_grad()
def euler_ancestral(process: Process, denoise: Denoiser, x: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Euler's step to less noise than the next level has, and fresh noise up to it.

    The split is that of ancestral sampling in z (2011.13456, appendix F): down to ratio_below^2 / ratio. So the step is
    DDPM's with the posterior's variance. The last step draws nothing.
    """
    x = as_float32(x)
    for here, below in pairwise(noise_levels(process)):
        shrink = below.ratio / here.ratio
        down, up = below.sigma * shrink, below.sigma * math.sqrt(1.0 - shrink**2)
        x = euler_step(x, denoise_x0(denoise, x, here), here, replace(below, sigma=down))
        if up > 0.0:
            x = x + up * noise(x)
        yield x
