"""Parts that samplers share: seeded noise, noise levels, one Euler step and the use of a gradient.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.

With x_t = alpha x0 + sigma eps, a process without noise follows dz = eps d(sigma / alpha), z = x / alpha (2010.02502,
eq. 14; EDM, 2206.00364, eq. 1, whose sigma is this ratio). Everything here keeps x_t itself, with coefficients in
float64: z has no bound at the noisy end, and its sums cancel in float32. The papers' steps in eps or in z are then one
step along x0, which is finite even where alpha is 0, and a correction.

A sampler is a generator that receives the respaced process, a denoiser (conditioned on training timesteps), the start
x [N,C,H,W] ~ N(0, I) and, where it draws noise, a source of noise. It computes in float32 (float64 where x is),
whatever the network runs in, yields x [N,C,H,W] after each of the S steps, and spends gradients by `apply_gradient`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser, Prediction
from glide.diffusion.process import Process
from glide.utils.errors import InputError

Noise = Callable[[Tensor], Tensor]
"""A unit Gaussian draw in the shape of a tensor, on its device."""


class SeededNoise:
    """Gaussian noise with one generator for each sample, so that sample i is the same whatever the batch.

    seeds: one for each of the N rows. Drawn on the CPU and then moved: the same numbers on every device.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def randn(self, shape_of_one: Sequence[int], device: torch.device | str = "cpu") -> Tensor:
        """The next draw, float32 [N, *shape_of_one]."""
        rows = torch.empty(len(self.generators), *shape_of_one)
        for row, generator in zip(rows, self.generators, strict=True):
            row.normal_(generator=generator)
        return rows.to(device)

    def __call__(self, like: Tensor) -> Tensor:
        """The next draw in the shape, type and place of `like` [N,...]."""
        if len(like) != len(self.generators):
            raise InputError(
                f"got {len(like)} samples and {len(self.generators)} seeds, expected one seed a sample"
            )
        return self.randn(like.shape[1:], like.device).to(like.dtype)


def apply_gradient(prediction: Prediction, x: Tensor, alpha_bar: float) -> Tensor:
    """x0 with the gradient spent, as every deterministic solver does: eps -= sqrt(1 - alpha_bar) * grad.

    ADM (2105.05233), algorithm 2; that is, x0 moves by (1 - alpha_bar) / sqrt(alpha_bar) * grad. Without signal
    (alpha_bar = 0) x_t knows nothing of y, its true gradient is 0, and x0 stays.
    """
    if alpha_bar == 0.0 or (isinstance(prediction.grad, float) and prediction.grad == 0.0):
        return prediction.x0
    # Through eps and back, not by the sum above: at the noisiest steps the way back cancels in float32, and only
    # with the original's rounding do its samples come out (else 2e-3 off them; the sum is the exact one).
    scale, ratio = 1.0 / math.sqrt(alpha_bar), math.sqrt(1.0 / alpha_bar - 1.0)
    scaled = scale * x
    eps = (scaled - prediction.x0).div_(ratio).sub_(math.sqrt(1.0 - alpha_bar) * prediction.grad)
    return scaled.sub_(eps.mul_(ratio))


MAX_CORRECTED_RATIO = 8.0
"""A step in which the noise ratio falls by more than this factor is corrected by the prediction at its end only where
that is seen to hold. In EDM's own ladder of 18 steps it is less than 4."""


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level of a process: x_t = alpha x0 + sigma eps."""

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
    """x as float32, or float64 where it is: the type that samplers compute in."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def denoise_x0(denoise: Denoiser, x: Tensor, at: NoiseLevel) -> Tensor:
    """The predicted x0 [N,C,H,W], the gradient spent."""
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

    Corrections by the slope at the end divide by the remaining noise there: over a long step they can magnify the error
    that they should correct.
    """
    return has_slope_below(here, below) and here.ratio <= MAX_CORRECTED_RATIO * below.ratio


Point = tuple[NoiseLevel, Tensor]
"""A noise level and the x0 [N,C,H,W] predicted there."""

MAX_STEP_GROWTH = 2.0
"""x0 is extrapolated over a step in lambda up to this many times as long as the step before it."""


def extrapolable(before: NoiseLevel, here: NoiseLevel, below: NoiseLevel) -> bool:
    """True where a polynomial through earlier predictions, the last one at `before`, helps the step.

    Where steps even in time end, the last ones are long in lambda: there x0 hardly changes any more, and a line through
    the last two predictions shoots past it. Such a step is of first order, as the one to the picture itself is.
    """
    if below.sigma == 0.0:
        return False
    return below.log_snr - here.log_snr <= MAX_STEP_GROWTH * (here.log_snr - before.log_snr)
