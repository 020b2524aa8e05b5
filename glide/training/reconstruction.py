"""The objective of an autoencoder: a task for `glide.training.fit.fit`.

Shape letters: N batch, C channels, H W pixels, c latent channels, h w latents.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.networks.autoencoder import Autoencoder
from glide.training.reconstruction_config import ReconstructionConfig
from glide.training.row_rng import RowRng

NOISE_LEVELS = 1000
"""Levels of the latent noise, as timesteps: t of NOISE_LEVELS - 1 is the most."""
SCALES = 3
"""Scales at which gradients are compared: 1, 1/2 and 1/4."""

Features = Callable[[Tensor], Sequence[Tensor]]
"""A network's feature maps [N,...] of pictures [N,C,H,W] in [-1, 1]."""


@dataclass(frozen=True)
class Reconstruction:
    """Encode a picture and decode it again. The diffusion loss never trains the autoencoder, which it would collapse
    (2504.10483)."""

    loss: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    features: Features | None = None
    """Of a perceptual loss (1801.03924), the mean squared difference of unit features: those of any network, such as
    `PretrainedImages.features`."""

    def __call__(
        self, model: Autoencoder, batch: dict[str, Any], t: Tensor, draws: RowRng
    ) -> dict[str, Tensor]:
        """batch: image [N,C,H,W] in [-1, 1]; t [N] the level of the latent noise -> [N] losses and their terms."""
        x, loss = batch["image"], self.loss
        mean, log_variance = model.moments(x)
        latents = mean
        if log_variance is not None:
            latents = mean + torch.exp(0.5 * log_variance) * draws.normal(mean)
        if loss.latent_noise:
            latents = noised(latents, loss.latent_noise * t / (NOISE_LEVELS - 1), draws)
        found = self._errors(x, model.reconstruct(latents).float())
        if loss.equivariance:
            half = self._errors(F.avg_pool2d(x, 2), model.reconstruct(F.avg_pool2d(latents, 2)).float())
            found["equivariance"] = half["loss"]
            found["loss"] = found["loss"] + loss.equivariance * half["loss"]
        if log_variance is not None:
            found["kl"] = kl_divergence(mean.float(), log_variance.float())
            found["loss"] = found["loss"] + loss.kl * found["kl"]
        return found

    def _errors(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """x and y [N,C,H,W] -> [N] loss, l1, gradients and psnr."""
        squared = (y - x).square().flatten(1).mean(dim=1)
        found = {"l1": (y - x).abs().flatten(1).mean(dim=1), "gradients": gradient_error(x, y)}
        total = self.loss.l1 * found["l1"] + self.loss.gradients * found["gradients"] + self.loss.l2 * squared
        if self.features is not None:
            found["perceptual"] = perceptual_error(self.features, x, y)
            total = total + self.loss.perceptual_weight * found["perceptual"]
        # 10 log10(2^2 / error): the range of pixels is 2
        found["psnr"] = -10.0 * torch.log10(squared.detach().clamp(min=1e-12) / 4.0)
        return {"loss": total, **found}


def noised(latents: Tensor, level: Tensor, draws: RowRng) -> Tensor:
    """Latents [N,c,h,w] with noise of `level` [N] times their own deviation, picture by picture.

    In proportion to it, and with its gradient: an encoder cannot escape the noise by larger latents.
    """
    deviation = latents.float().flatten(1).std(dim=1).to(latents)  # [N]
    amount = (level.to(latents) * deviation)[:, None, None, None]
    return latents + amount * draws.normal(latents)


def gradient_error(x: Tensor, y: Tensor) -> Tensor:
    """Mean absolute error of differences between neighbours of x and y [N,C,H,W], at SCALES scales -> [N]."""
    total = x.new_zeros(len(x))
    for scale in range(SCALES):
        if scale:
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        difference = y - x
        for dim in (-1, -2):
            total = total + difference.diff(dim=dim).abs().flatten(1).mean(dim=1)
    return total / (2 * SCALES)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(0, 1)) of a mean latent (1312.6114, appendix B): [N,c,h,w] -> [N], in nats."""
    kl = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance)
    return kl.flatten(1).mean(dim=1)


def perceptual_error(features: Features, x: Tensor, y: Tensor) -> Tensor:
    """Squared distance of the unit features of x and y [N,C,H,W], mean over places and maps (1801.03924) -> [N]."""
    errors = [
        (F.normalize(a.float(), dim=1) - F.normalize(b.float(), dim=1))
        .square()
        .sum(dim=1)
        .flatten(1)
        .mean(dim=1)
        for a, b in zip(features(x), features(y), strict=True)
    ]
    return torch.stack(errors).mean(dim=0)


@torch.no_grad()
def latent_statistics(
    model: Autoencoder, images: Sequence[Tensor]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each latent channel, as they were trained, over pictures [N,C,H,W] in [-1, 1]."""
    total, squared, count = torch.zeros(()), torch.zeros(()), 0
    for image in images:
        latents = (
            model.moments(image.to(model.device))[0].double().cpu().transpose(0, 1).flatten(1)
        )  # [c,N*h*w]
        total, squared = total + latents.sum(dim=1), squared + latents.square().sum(dim=1)
        count += latents.shape[1]
    mean = total / count
    std = (squared / count - mean.square()).clamp(min=1e-12).sqrt()
    return tuple(mean.tolist()), tuple(std.tolist())
