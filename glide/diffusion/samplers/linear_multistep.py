"""Linear multistep methods in eps: PLMS (of PNDM) and K-LMS.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

Both follow dz = eps d(sigma / alpha) (`glide.diffusion.samplers.base`) with one network call a step: the mean of eps
over the step is that of the polynomial through the last few predictions, by the Adams-Bashforth weights. They differ in
the variable of the polynomial.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import (
    NoiseLevel,
    as_float32,
    correctable,
    denoise_x0,
    eps_from_x0,
    euler_step,
    noise_levels,
)

LMS_END_RATIO = 0.05
"""sigma / alpha below which the last step of K-LMS is Euler's."""

History = list[tuple[float, Tensor]]
"""Nodes of the polynomial and eps [N,C,H,W] at each, the newest first."""


def adams_bashforth(nodes: Sequence[float], end: float) -> list[float]:
    """Weights of the values at distinct `nodes` in the mean, from nodes[0] to `end`, of the polynomial through them.

    They solve sum_j w_j u_j^k = 1 / (k + 1), u going from 0 at nodes[0] to 1 at the end. For even nodes they are the
    textbook's: (55, -59, 37, -9) / 24 for four.
    """
    u = (np.array(nodes, dtype=np.float64) - nodes[0]) / (end - nodes[0])
    powers = np.arange(len(nodes))
    return np.linalg.solve(u[None, :] ** powers[:, None], 1.0 / (powers + 1.0)).tolist()


def mean_slope(past: History, end: float) -> Tensor:
    """The mean of eps [N,C,H,W] from the newest node of `past` to `end`."""
    weights = adams_bashforth([node for node, _ in past], end)
    mean = weights[0] * past[0][1]
    for weight, (_, eps) in zip(weights[1:], past[1:], strict=True):
        mean = mean + weight * eps  # not add(alpha=): a fused product rounds otherwise at the end of a vector
    return mean


def _transfer(
    x: Tensor, x0: Tensor, eps: Tensor, mean: Tensor, here: NoiseLevel, below: NoiseLevel
) -> Tensor:
    """PNDM's transfer (2202.09778, section 3) of x by `mean` in place of eps: DDIM's step and a correction."""
    return euler_step(x, x0, here, below) + below.alpha * (below.ratio - here.ratio) * (mean - eps)


@torch.no_grad()
def plms(process: Process, denoise: Denoiser, x: Tensor, order: int = 4) -> Iterator[Tensor]:
    """PNDM's pseudo linear multistep method (2202.09778, eq. 12): second order, S + 1 network calls.

    The polynomial is of the training timestep, so for evenly spaced ones the weights are the paper's, and other
    spacings have theirs; the picture's timestep is -1. The first step is the pseudo improved Euler method's, of two
    calls, where it is `correctable`, else DDIM's; then the order of the weights rises to `order`.
    """
    x = as_float32(x)
    past: History = []
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here)
        eps = eps_from_x0(x, x0, here)
        past = [(here.t, eps), *past][:order]
        if len(past) > 1:
            x = _transfer(x, x0, eps, mean_slope(past, below.t), here, below)
        elif correctable(here, below):
            predicted = euler_step(x, x0, here, below)
            eps_below = eps_from_x0(predicted, denoise_x0(denoise, predicted, below), below)
            x = _transfer(x, x0, eps, (eps + eps_below) / 2.0, here, below)
        else:
            x = euler_step(x, x0, here, below)
        yield x


@torch.no_grad()
def lms(process: Process, denoise: Denoiser, x: Tensor, order: int = 4) -> Iterator[Tensor]:
    """K-LMS: the linear multistep method in EDM's noise level, S network calls.

    The polynomial is of sigma / alpha, the equation's own variable (rho-AB in DEIS, 2204.13902), so the weights are
    exact for any spacing. The first step is Euler's, then their order rises to `order`. Pure noise lies infinitely far
    away: Euler's step leaves it, and its eps is not kept. A last step from less noise than `LMS_END_RATIO` is Euler's
    too, and gives x0: there eps is the difference of x_t and x0 over next to no noise, and the rounding error of a
    network in reduced precision grows with the order.
    """
    x = as_float32(x)
    past: History = []
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here)
        if math.isinf(here.ratio) or (below.ratio == 0.0 and here.ratio < LMS_END_RATIO):
            x = euler_step(x, x0, here, below)
        else:
            eps = eps_from_x0(x, x0, here)
            past = [(here.ratio, eps), *past][:order]
            x = _transfer(x, x0, eps, mean_slope(past, below.ratio), here, below)
        yield x
