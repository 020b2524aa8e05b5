"""UniPC: a predictor and a corrector of any order, in x0 and the logarithm of the signal-to-noise ratio.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

The equation and its step are those of `glide.diffusion.samplers.dpm_solver`. S network calls; the last step is of first
order, and gives x0; so is a step from pure noise.
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
    Point,
    as_float32,
    denoise_x0,
    euler_step,
    extrapolable,
    noise_levels,
)
from glide.utils.errors import InputError


@torch.no_grad()
def unipc(process: Process, denoise: Denoiser, x: Tensor, order: int = 2) -> Iterator[Tensor]:
    """UniPC-p (2302.04867, algorithms 1 and 2, of x0, with B_2): order p + 1, from p predictions and their correction.

    Each call serves twice: to correct the step that led here (UniC), and to predict the next one (UniP), from the
    corrected x. The x that is yielded is predicted only; the next step corrects it first. InputError for an order
    below 1.
    """
    if order < 1:
        raise InputError(
            f"got order {order} of UniPC, expected at least 1: 2 suits guided, 3 unguided sampling"
        )
    x = as_float32(x)
    points: list[Point] = []  # the newest first
    start: Tensor | None = None  # the x that the last step began with
    for here, below in pairwise(noise_levels(process)):
        new = here, denoise_x0(denoise, x, here)
        if points and start is not None:
            x = _polynomial_step(start, points, here, new)
        start = x
        if math.isinf(here.ratio):
            x = euler_step(x, new[1], here, below)
        else:
            known = bool(points) and extrapolable(points[0][0], here, below)
            points = [new, *points][: order if known else 1]
            x = _polynomial_step(x, points, below)
        yield x


def _polynomial_step(
    x: Tensor, points: Sequence[Point], below: NoiseLevel, end: Point | None = None
) -> Tensor:
    """One step from points[0] to `below`, with x0 as a polynomial through all points and, if it is known, `end`."""
    (here, x0), *others = points
    others = others if end is None else [*others, end]
    x = euler_step(x, x0, here, below)
    if others:
        h = below.log_snr - here.log_snr
        weights = moment_weights([(level.log_snr - here.log_snr) / h for level, _ in others], h)
        for weight, (_, other) in zip(weights, others, strict=True):
            x = x + below.alpha * weight * (other - x0)
    return x


def moment_weights(r: Sequence[float], h: float) -> list[float]:
    """Weights of x0(lambda + r_m h) - x0(lambda) in the step's integral, divided by alpha'; r_m are distinct, not 0.

    They are exact for polynomials: sum_m w_m r_m^k = h * integral of e^(-h (1 - u)) u^k from 0 to 1, k = 1, 2, ...
    That is -B(h) a_m / r_m in the paper, where B cancels. For a single one a_1 is 1/2, as there, which keeps the order
    and leaves B_2(h) = e^-h - 1.
    """
    if len(r) == 1:
        return [-math.expm1(-h) / (2.0 * r[0])]
    nodes, areas = np.polynomial.legendre.leggauss(24)
    u, area = (nodes + 1.0) / 2.0, areas / 2.0
    k = np.arange(1, len(r) + 1)[:, None]
    moments = h * (area * np.exp(-h * (1.0 - u)) * u**k).sum(axis=1)
    return np.linalg.solve(np.array(r)[None, :] ** k, moments).tolist()
