"""Solvers in x0 and the logarithm of the signal-to-noise ratio: DPM-Solver++ 2M, its SDE form, and UniPC.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

With lambda = log(alpha / sigma) a step is x' = sigma'/sigma x + sigma' * integral of e^lambda x0(lambda), from lambda
to lambda' (DPM-Solver++, 2211.01095, proposition 4.1): what is linear is exact, and only x0 is approximated, by a
polynomial through what was predicted before. x0 constant is DDIM's step,
`glide.diffusion.samplers.euler_heun.euler_step`. All take S network calls. The picture's lambda is infinite, so the
last step is of first order, and gives x0; so is one that leaves noise alone.
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
from glide.diffusion.samplers.ddpm_ddim import Noise
from glide.diffusion.samplers.euler_heun import NoiseLevel, as_float32, denoise_x0, euler_step, noise_levels
from glide.utils.errors import InputError

Point = tuple[NoiseLevel, Tensor]  # where x0 [N,C,H,W] was predicted

STRETCH = 2.0
"""A step in lambda may be so many times as long as the last one for what came before to say where x0 goes."""


def foreseen(before: NoiseLevel, here: NoiseLevel, below: NoiseLevel) -> bool:
    """Whether a polynomial through earlier predictions, the last one `before`, is of use for a step.

    Where steps even in time end, the last ones are long in lambda: there x0 hardly changes any more, and a line through
    the last two predictions shoots past it. Such a step is of first order, as the one to the picture itself is.
    """
    if below.sigma == 0.0:
        return False
    return below.log_snr - here.log_snr <= STRETCH * (here.log_snr - before.log_snr)


def _ahead(x0: Tensor, before: Point | None, here: NoiseLevel, below: NoiseLevel) -> Tensor:
    """D of 2211.01095, algorithm 2, line 8: x0 as a line through the last two predictions has it halfway."""
    if before is None or not foreseen(before[0], here, below):
        return x0
    level, x0_before = before
    r = (here.log_snr - level.log_snr) / (below.log_snr - here.log_snr)  # infinite after noise alone
    return x0 + (x0 - x0_before) / (2.0 * r)


@torch.no_grad()
def dpmpp_2m(process: Process, denoise: Denoiser, x: Tensor) -> Iterator[Tensor]:
    """DPM-Solver++(2M) (2211.01095, algorithm 2): second order."""
    x = as_float32(x)
    before: Point | None = None
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here)
        x = euler_step(x, _ahead(x0, before, here, below), here, below)
        before = here, x0
        yield x


@torch.no_grad()
def dpmpp_2m_sde(process: Process, denoise: Denoiser, x: Tensor, noise: Noise) -> Iterator[Tensor]:
    """SDE-DPM-Solver++(2M) (2211.01095, its part on diffusion SDEs): the same for the process with noise.

    x' = sigma'/sigma e^-h x + alpha' (1 - e^-2h) D + sigma' sqrt(1 - e^-2h) noise, h = lambda' - lambda. With x0 in
    place of D it is DDPM's step with the posterior's variance. The last step draws nothing.
    """
    x = as_float32(x)
    before: Point | None = None
    for here, below in pairwise(noise_levels(process)):
        shrink = below.ratio / here.ratio  # e^-h
        fresh = 1.0 - shrink**2
        x0 = denoise_x0(denoise, x, here)
        ahead = _ahead(x0, before, here, below)
        x = below.sigma / here.sigma * shrink * x + below.alpha * fresh * ahead
        if below.sigma > 0.0:
            x = x + below.sigma * math.sqrt(fresh) * noise(x)
        before = here, x0
        yield x


@torch.no_grad()
def unipc(process: Process, denoise: Denoiser, x: Tensor, order: int = 2) -> Iterator[Tensor]:
    """UniPC-p (2302.04867, algorithms 1 and 2, of x0, with B_2): order p + 1, from p predictions and their correction.

    Each call serves twice: to correct the step that led here (UniC), and to predict the next one (UniP), from the
    corrected x. What is yielded is predicted only; the next step corrects it first. InputError for an order below 1.
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
            x = _through(start, points, here, new)
        start = x
        if math.isinf(here.ratio):
            x = euler_step(x, new[1], here, below)
        else:
            known = bool(points) and foreseen(points[0][0], here, below)
            points = [new, *points][: order if known else 1]
            x = _through(x, points, below)
        yield x


def _through(x: Tensor, points: Sequence[Point], below: NoiseLevel, end: Point | None = None) -> Tensor:
    """One step from points[0] to `below`, x0 a polynomial through all points and, where it is known, its end."""
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
    That is -B(h) a_m / r_m in the paper, where B cancels; but for one alone a_1 is 1/2, as there, which keeps the order
    and leaves B_2(h) = e^-h - 1.
    """
    if len(r) == 1:
        return [-math.expm1(-h) / (2.0 * r[0])]
    nodes, areas = np.polynomial.legendre.leggauss(24)
    u, area = (nodes + 1.0) / 2.0, areas / 2.0
    k = np.arange(1, len(r) + 1)[:, None]
    moments = h * (area * np.exp(-h * (1.0 - u)) * u**k).sum(axis=1)
    return np.linalg.solve(np.array(r)[None, :] ** k, moments).tolist()
