"""Samplers: from noise to an image. Each reads like its paper's algorithm box and yields x after every step.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process. Every sampler takes the
respaced process, a denoiser (told training timesteps), the start x [N,C,H,W] ~ N(0, I) and a source of noise,
and does its arithmetic in float32 (float64 where x is), whatever the network runs in.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser, Prediction, Variance, log_variance
from glide.diffusion.process import Process
from glide.utils.errors import InputError

Noise = Callable[[Tensor], Tensor]  # a unit Gaussian draw of that tensor's shape, on its device


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
        # in place where nobody else looks: pictures can be large
        eps = (x - math.sqrt(alpha_bar) * x0).div_(math.sqrt(1.0 - alpha_bar))
        x = eps.mul_(left).add_(math.sqrt(alpha_bar_prev) * x0)
        if sigma > 0.0 and noise is not None:
            x = x + sigma * noise(x)
        del x0, eps  # not held while the next step is predicted
        yield x


def ddim_noise(alpha_bar: float, alpha_bar_prev: float, eta: float) -> tuple[float, float]:
    """Standard deviations of the noise that a step of DDIM draws (2010.02502, eq. 16), and of what it keeps (eq. 12).

    The second is sqrt(1 - alpha_bar_prev - sigma^2). With noise that difference is written as a sum of what cannot be
    negative: from noise alone (alpha_bar = 0) at eta 1 nothing is kept, and rounding must not make it less.
    """
    beta = 1.0 - alpha_bar / alpha_bar_prev
    share = (1.0 - alpha_bar_prev) / (1.0 - alpha_bar)
    if eta == 0.0:
        return 0.0, math.sqrt(1.0 - alpha_bar_prev)
    kept = (1.0 - eta**2) * beta + alpha_bar * (1.0 - alpha_bar_prev) / alpha_bar_prev
    return eta * math.sqrt(share * beta), math.sqrt(share * kept)


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
