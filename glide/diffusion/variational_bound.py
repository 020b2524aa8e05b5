"""The variational bound on the negative log-likelihood of images, in bits per dimension.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.diffusion.denoiser import (
    Denoiser,
    Variance,
    log_variance,
)
from glide.diffusion.process import Process, gather
from glide.diffusion.samplers.base import Noise


def bound_term_bits(
    process: Process, x0: Tensor, x_t: Tensor, t: Tensor, x0_hat: Tensor, log_var: Tensor
) -> Tensor:
    """L_{t-1} of the bound (DDPM, 2006.11239, eq. 5), bits per dimension [N].

    x0_hat: the predicted x0; log_var: of p(x_{t-1} | x_t). At the first timestep it is the decoder's -log
    p(x0 | x_1).
    """
    coef_x0, coef_xt = (
        gather(c, t, x0) for c in (process.posterior_mean_coef_x0, process.posterior_mean_coef_xt)
    )
    mean = coef_x0 * x0_hat + coef_xt * x_t
    true_mean, true_log_var = coef_x0 * x0 + coef_xt * x_t, gather(process.posterior_log_variance, t, x0)
    kl = _gaussian_kl(true_mean, true_log_var, mean, log_var)
    decoder = -_discretized_log_likelihood(x0, mean, log_var)
    first = t.reshape(-1, *[1] * (x0.ndim - 1)) == 0
    return mean_flat(torch.where(first, decoder, kl)) / math.log(2.0)


def prior_bits(process: Process, x0: Tensor) -> Tensor:
    """KL(q(x_T | x0) || N(0, I)), the part of the bound that training cannot change: bits per dimension [N]."""
    # float64: the terms cancel down to alpha_bar_T, about 1e-9, which float32 cannot hold next to 1.
    alpha_bar = float(process.alpha_bar[-1])
    mean_squared = alpha_bar * mean_flat(x0.to("cpu", torch.float64) ** 2)
    nats = 0.5 * (mean_squared - alpha_bar - math.log1p(-alpha_bar))
    return (nats / math.log(2.0)).to(x0.device, torch.float32)


@dataclass(frozen=True, eq=False)
class Bits:
    """The bound after one more timestep of `bits_per_dimension`. All [N], float32."""

    t: int  # the training timestep
    vb: Tensor  # its term, bits per dimension
    mse: Tensor  # mean squared error of eps there
    x0_mse: Tensor  # mean squared error of x0 there
    prior: Tensor  # the prior's term, bits per dimension
    total: Tensor  # prior and all terms so far: after the last step, the image's bits per dimension


@torch.no_grad()
def bits_per_dimension(
    denoise: Denoiser, process: Process, x0: Tensor, noise: Noise, variance: Variance = "learned"
) -> Iterator[Bits]:
    """Upper bound on the negative log-likelihood of 8-bit images, in bits per dimension (DDPM eq. 5).

    x0 [N,C,H,W] in [-1, 1], from 8-bit pixels. denoise: as for a sampler; ADM's figures clamp x0. process: a
    respaced one gives the bound of the shorter chain. noise: SeededNoise(seeds). Yields after each of the S
    timesteps, the noisiest first; the last `total` is the result. Raises InputError as `log_variance`.
    """
    prior = prior_bits(process, x0)
    total = prior.clone()
    for i in reversed(range(len(process))):
        t = torch.full((len(x0),), i, dtype=torch.int64, device=x0.device)
        eps = noise(x0)
        x_t = process.q_sample(x0, t, eps)
        prediction = denoise(x_t, int(process.timesteps[i]))
        log_var = log_variance(process, t, prediction.v, variance, x0)
        vb = bound_term_bits(process, x0, x_t, t, prediction.x0, log_var)
        total = total + vb
        x0_mse = mean_flat((prediction.x0 - x0) ** 2)
        yield Bits(int(process.timesteps[i]), vb, float(process.snr[i]) * x0_mse, x0_mse, prior, total)


def _gaussian_kl(mean: Tensor, log_var: Tensor, mean2: Tensor, log_var2: Tensor) -> Tensor:
    """KL(N(mean, exp log_var) || N(mean2, exp log_var2)) per pixel, nats."""
    return 0.5 * (
        log_var2 - log_var - 1.0 + torch.exp(log_var - log_var2) + (mean - mean2) ** 2 * torch.exp(-log_var2)
    )


def _discretized_log_likelihood(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """Log probability per pixel, nats, of the 8-bit value x in [-1, 1] under a Gaussian (DDPM eq. 13).

    The outermost bins reach to infinity.
    """
    inv_std = torch.exp(-0.5 * log_var)
    upper = torch.where(x > 0.999, torch.inf, (x - mean + 1.0 / 255.0) * inv_std)
    lower = torch.where(x < -0.999, -torch.inf, (x - mean - 1.0 / 255.0) * inv_std)
    return (_normal_cdf(upper) - _normal_cdf(lower)).clamp(min=1e-12).log()


def _normal_cdf(z: Tensor) -> Tensor:
    """The normal distribution function, by the tanh approximation of published bits per dimension."""
    return 0.5 * (1.0 + torch.tanh(math.sqrt(2.0 / math.pi) * (z + 0.044715 * z**3)))


def mean_flat(x: Tensor) -> Tensor:
    """The mean over all dimensions but the first: [N,...] -> [N]."""
    return x.flatten(1).mean(dim=1)
