"""DDPM's ancestral sampling and DDIM. Each reads like its paper's algorithm box.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process. Arguments and results are those of
every sampler (`glide.diffusion.samplers.base`).
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser, Variance, log_variance
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import Noise, apply_gradient
from glide.utils.errors import InputError


@torch.no_grad()
def ancestral(
    process: Process, denoise: Denoiser, x: Tensor, noise: Noise, variance: Variance = "learned"
) -> Iterator[Tensor]:
    """DDPM (2006.11239), algorithm 2, with the learned variance of iDDPM (2102.09672).

    Yields x [N,C,H,W] after each of the S steps. A gradient shifts the mean by variance * grad (ADM,
    2105.05233, algorithm 1). variance: see `log_variance`, which also says what it raises.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    for i in reversed(range(len(process))):
        coef_x0, coef_xt = process.posterior_mean_coef_x0[i], process.posterior_mean_coef_xt[i]
        prediction = denoise(x, int(process.timesteps[i]))
        entry = torch.full((len(x),), i, dtype=torch.int64, device=x.device)
        log_var = log_variance(process, entry, prediction.v, variance, x)
        mean = float(coef_x0) * prediction.x0 + float(coef_xt) * x + log_var.exp() * prediction.grad
        x = mean + (0.5 * log_var).exp() * noise(x) if i > 0 else mean
        yield x


@torch.no_grad()
def ddim(
    process: Process, denoise: Denoiser, x: Tensor, noise: Noise | None = None, eta: float = 0.0
) -> Iterator[Tensor]:
    """DDIM (2010.02502), eq. 12, with the variance of eq. 16 times eta^2: 0 is deterministic, 1 is ancestral.

    Yields x [N,C,H,W] after each of the S steps; `noise` is drawn only where eta > 0. A gradient moves x0 as
    `apply_gradient` says. Raises InputError for an eta outside [0, 1], and for eta > 0 without noise.
    """
    if not 0.0 <= eta <= 1.0:
        raise InputError(
            f"got eta {eta}, expected 0 (deterministic) to 1 (as much noise as DDPM): choose in between"
        )
    if eta > 0.0 and noise is None:
        raise InputError(
            f"got eta {eta} without a source of noise, expected one: give SeededNoise(seeds), or eta 0"
        )
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    for i in reversed(range(len(process))):
        alpha_bar, alpha_bar_prev = float(process.alpha_bar[i]), float(process.alpha_bar_prev[i])
        sigma, left = ddim_noise(alpha_bar, alpha_bar_prev, eta)
        x0 = apply_gradient(denoise(x, int(process.timesteps[i])), x, alpha_bar)
        # in place where the tensor is not used elsewhere: pictures can be large
        eps = (x - math.sqrt(alpha_bar) * x0).div_(math.sqrt(1.0 - alpha_bar))
        x = eps.mul_(left).add_(math.sqrt(alpha_bar_prev) * x0)
        if sigma > 0.0 and noise is not None:
            x = x + sigma * noise(x)
        del x0, eps  # frees memory for the next prediction
        yield x


def ddim_noise(alpha_bar: float, alpha_bar_prev: float, eta: float) -> tuple[float, float]:
    """Standard deviations of the noise that a DDIM step draws (2010.02502, eq. 16) and of what it keeps (eq. 12).

    The second is sqrt(1 - alpha_bar_prev - sigma^2). With noise that difference is written as a sum of terms that
    cannot be negative: from pure noise (alpha_bar = 0) at eta 1 nothing is kept, and rounding must not make it less.
    """
    beta = 1.0 - alpha_bar / alpha_bar_prev
    share = (1.0 - alpha_bar_prev) / (1.0 - alpha_bar)
    if eta == 0.0:
        return 0.0, math.sqrt(1.0 - alpha_bar_prev)
    kept = (1.0 - eta**2) * beta + alpha_bar * (1.0 - alpha_bar_prev) / alpha_bar_prev
    return eta * math.sqrt(share * beta), math.sqrt(share * kept)
