"""Shared by tests: Gaussian, last, no_noise, observed, start."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from glide.diffusion.denoiser import Prediction
from glide.diffusion.process import Process


@dataclass(frozen=True)
class Gaussian:
    """Data N(mean, std^2) in every pixel, and all that follows from it at a training timestep."""

    process: Process  # the training process
    mean: float
    std: float

    def marginal(self, t: int) -> tuple[float, float]:
        """Mean and variance of x_t."""
        alpha_bar = float(self.process.alpha_bar[t])
        return math.sqrt(alpha_bar) * self.mean, alpha_bar * self.std**2 + 1 - alpha_bar

    def uncertainty(self, t: int) -> float:
        """Variance of x_0 given x_t."""
        return self.std**2 * (1 - float(self.process.alpha_bar[t])) / self.marginal(t)[1]

    def denoise(self, x: torch.Tensor, t: int) -> Prediction:
        """E[x_0 | x_t]."""
        mean, variance = self.marginal(t)
        gain = math.sqrt(self.process.alpha_bar[t]) * self.std**2 / variance
        return Prediction(self.mean + gain * (x - mean))

    def denoise_with_variance(self, respaced: Process):
        """The same with the v that makes every reverse step of `respaced` exact."""

        def denoise(x: torch.Tensor, t: int) -> Prediction:
            i = respaced.timesteps.tolist().index(t)
            exact = (
                respaced.posterior_mean_coef_x0[i] ** 2 * self.uncertainty(t) + respaced.posterior_variance[i]
            )
            small, large = respaced.posterior_log_variance[i], np.log(respaced.betas[i])
            v = 2 * (np.log(exact) - small) / (large - small) - 1
            return Prediction(self.denoise(x, t).x0, torch.full_like(x, float(v)))

        return denoise


def start(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def last(steps):
    return list(steps)[-1]


def no_noise(like):
    return torch.zeros_like(like)


def observed(data: Gaussian, value: float, noise: float):
    """The denoiser of `data` with the gradient of log p(y | x_t), y = x_0 + noise * N(0, 1) observed as `value`;
    and the Gaussian that Bayes' rule makes of both."""

    def denoise(x, t):
        x0 = data.denoise(x, t).x0
        gain = (data.denoise(x + 1, t).x0 - x0).mean().item()  # d E[x_0 | x_t] / d x_t
        return Prediction(x0, None, gain * (value - x0) / (data.uncertainty(t) + noise**2))

    variance = 1 / (1 / data.std**2 + 1 / noise**2)
    mean = variance * (data.mean / data.std**2 + value / noise**2)
    return denoise, Gaussian(data.process, mean, math.sqrt(variance))
