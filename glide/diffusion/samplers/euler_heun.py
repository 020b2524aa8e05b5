"""Solvers: what the few-step samplers share, and the one-step ones of EDM's kind: Euler, Heun, ancestral Euler.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

With x_t = alpha x0 + sigma eps, a process without noise follows dz = eps d(sigma / alpha), z = x / alpha (2010.02502,
eq. 14; EDM, 2206.00364, eq. 1, whose sigma is this ratio). Everything here keeps x_t itself, with coefficients in
float64: z has no bound at the noisy end, and its sums cancel in float32. What the papers write in eps or in z is then
one step along x0, which is finite even where alpha is 0, and a correction. As in `glide.diffusion.samplers.ddpm_ddim`,
arithmetic is in float32 (float64 where x is), x [N,C,H,W] is yielded after each of the S steps, and gradients are
spent by `apply_gradient`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.ddpm_ddim import Noise, apply_gradient

MAX_CORRECTED_RATIO = 8.0
"""A step in which the noise ratio falls by more than this factor is corrected by the prediction at its end only where
that is seen to hold. In EDM's own ladder of 18 steps it is less than 4."""
HOLDS = 0.5
"""Share of a slope's change over a leap by which the slope at its end may move with the correction."""


@dataclass(frozen=True)
class NoiseLevel:
    """A level of noise."""

    t: int  # training timestep; -1 is the picture itself
    alpha: float
    sigma: float

    @property
    def ratio(self) -> float:
        """sigma / alpha, the noise level of EDM: from 0 (the picture) to infinity (noise alone)."""
        return self.sigma / self.alpha if self.alpha > 0.0 else math.inf

    @property
    def log_snr(self) -> float:
        """lambda = log(alpha / sigma), half the logarithm of the signal-to-noise ratio: from -inf to inf."""
        if 0.0 < self.ratio < math.inf:
            return -math.log(self.ratio)
        return math.inf if self.ratio == 0.0 else -math.inf


def noise_levels(process: Process) -> list[NoiseLevel]:
    """The S+1 levels that a run visits, the noisiest first, the picture last."""
    entries = zip(process.timesteps.tolist(), process.alpha_bar.tolist(), strict=True)
    levels = [NoiseLevel(t, math.sqrt(alpha_bar), math.sqrt(1.0 - alpha_bar)) for t, alpha_bar in entries]
    return [*reversed(levels), NoiseLevel(-1, 1.0, 0.0)]


def as_float32(x: Tensor) -> Tensor:
    """x in the type that solvers compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def denoise_x0(denoise: Denoiser, x: Tensor, at: NoiseLevel) -> Tensor:
    """x0 [N,C,H,W], the gradient spent."""
    return apply_gradient(denoise(x, at.t), x, at.alpha**2)


def eps_from_x0(x: Tensor, x0: Tensor, at: NoiseLevel) -> Tensor:
    """eps [N,C,H,W], which is also dz / d(sigma / alpha)."""
    return (x - at.alpha * x0) / at.sigma


def euler_step(x: Tensor, x0: Tensor, here: NoiseLevel, below: NoiseLevel) -> Tensor:
    """One step at a constant x0: Euler's in z, and that of DDIM (2010.02502, eq. 13). To the picture it gives x0."""
    shrink = below.sigma / here.sigma
    return shrink * x + (below.alpha - here.alpha * shrink) * x0


def has_slope_below(here: NoiseLevel, below: NoiseLevel) -> bool:
    """True where the slope at the end of a step, and its mean with that at the beginning, are finite."""
    return here.alpha > 0.0 and below.sigma > 0.0


def correctable(here: NoiseLevel, below: NoiseLevel) -> bool:
    """True where the prediction at the end of a step can be trusted to correct it.

    Corrections by the slope at the end divide by the noise that is left there: over a leap they can magnify what they
    should correct.
    """
    return has_slope_below(here, below) and here.ratio <= MAX_CORRECTED_RATIO * below.ratio


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

    The last step is Euler's, as there, and one from noise alone. A step that is not `correctable` is corrected where
    the slope at its end stays what it was once x is corrected, each picture by itself: on both sides of the correction
    the network is asked, and the answer at the side that is taken is the next step's own.
    """
    x = as_float32(x)
    known: Tensor | None = None  # x0 at x, where the last step has asked for it
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
                taken = _smaller(moved, HOLDS * (slope_below - slope))
                x, known = torch.where(taken, corrected, x), torch.where(taken, x0_corrected, x0_below)
        yield x


def _smaller(a: Tensor, b: Tensor) -> Tensor:
    """True where a is not larger than b, by their root mean squares: [N,C,H,W] twice -> bool [N,1,1,1]."""
    rows = [bool(one.norm() <= other.norm()) for one, other in zip(a, b, strict=True)]  # each sum by itself
    return torch.tensor(rows, device=a.device)[:, None, None, None]


@torch.no_grad()
def euler_ancestral(process: Process, denoise: Denoiser, x: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Euler's step to less noise than is asked for, and what is missing drawn anew.

    The split is that of ancestral sampling in z (2011.13456, appendix F): down to ratio_below^2 / ratio, and so the
    step is DDPM's with the posterior's variance. The last one draws nothing.
    """
    x = as_float32(x)
    for here, below in pairwise(noise_levels(process)):
        shrink = below.ratio / here.ratio
        down, up = below.sigma * shrink, below.sigma * math.sqrt(1.0 - shrink**2)
        x = euler_step(x, denoise_x0(denoise, x, here), here, replace(below, sigma=down))
        if up > 0.0:
            x = x + up * noise(x)
        yield x
