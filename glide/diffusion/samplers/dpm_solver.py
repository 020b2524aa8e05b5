"""DPM-Solver++(2M) and its SDE form: solvers in x0 and the logarithm of the signal-to-noise ratio.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

With lambda = log(alpha / sigma) a step is x' = sigma'/sigma x + sigma' * integral of e^lambda x0(lambda), from lambda
to lambda' (DPM-Solver++, 2211.01095, proposition 4.1): what is linear is exact, and only x0 is approximated, by a
polynomial through earlier predictions. x0 constant is DDIM's step, `glide.diffusion.samplers.base.euler_step`. Both
samplers take S network calls. The picture's lambda is infinite, so the last step is of first order, and gives x0; so is
a step from pure noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import (
    Noise,
    NoiseLevel,
    Point,
    as_float32,
    denoise_x0,
    euler_step,
    extrapolable,
    noise_levels,
)


def _midpoint_x0(x0: Tensor, before: Point | None, here: NoiseLevel, below: NoiseLevel) -> Tensor:
    """x0 halfway through the step, on the line through two predictions: D of 2211.01095, algorithm 2, line 8."""
    if before is None or not extrapolable(before[0], here, below):
        return x0
    level, x0_before = before
    r = (here.log_snr - level.log_snr) / (below.log_snr - here.log_snr)  # infinite after pure noise
    return x0 + (x0 - x0_before) / (2.0 * r)


@torch.no_grad()
def dpmpp_2m(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (2211.01095, algorithm 2): second order."""
    x = as_float32(x)
    before: Point | None = None
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here)
        x = euler_step(x, _midpoint_x0(x0, before, here, below), here, below)
        before = here, x0
        yield x


@torch.no_grad()
def dpmpp_2m_sde(process: Process, denoise: Denoiser, x: Tensor, noise: Noise) -> Iterator[Tensor]:
    """SDE-DPM-Solver++(2M) (2211.01095, its part on diffusion SDEs): DPM-Solver++(2M) for the process with noise.

    x' = sigma'/sigma e^-h x + alpha' (1 - e^-2h) D + sigma' sqrt(1 - e^-2h) noise, h = lambda' - lambda. With x0 in
    place of D it is DDPM's step with the posterior's variance. The last step draws nothing.
    """
    x = as_float32(x)
    before: Point | None = None
    for here, below in pairwise(noise_levels(process)):
        shrink = below.ratio / here.ratio  # e^-h
        fresh = 1.0 - shrink**2
        x0 = denoise_x0(denoise, x, here)
        midpoint = _midpoint_x0(x0, before, here, below)
        x = below.sigma / here.sigma * shrink * x + below.alpha * fresh * midpoint
        if below.sigma > 0.0:
            x = x + below.sigma * math.sqrt(fresh) * noise(x)
        before = here, x0
        yield x
