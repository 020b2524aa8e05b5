"""The objective of a prior: a task for `glide.training.fit.fit`.

Shape letters: N batch, C channels, H W pixels, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.data.wrappers import token_inputs
from glide.diffusion.denoiser import to_x0
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.losses import loss_terms
from glide.diffusion.process import gather
from glide.networks.image_encoder import PretrainedImages
from glide.networks.prior import Prior
from glide.training.row_rng import RowRng

UNIT = 1e-4
"""Difference from 1, at most, of the norms of an encoder whose embeddings have norm 1."""


@dataclass(frozen=True)
class PriorObjective:
    """Predict the embedding of a picture from a noised one and the caption (DALL-E 2, 2204.06125, section 2.2).

    `null_captions` of the examples lose their caption, for classifier-free guidance.
    """

    encoder: PretrainedImages
    loss: LossConfig = field(default_factory=lambda: LossConfig(prediction="x0"))
    null_captions: float = 0.1

    def __call__(self, model: Prior, batch: dict[str, Any], t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        """batch: image [N,C,H,W] in [-1, 1] with caption (list of N), or tokens and mask [N,L]; t [N] -> [N] losses.

        Also "cosine": between the predicted and the true embedding.
        """
        z = self.encoder.encode(batch["image"])  # [N,E]
        x0 = model.normalise(z)
        noise = draws.normal(x0)
        dropped = draws.uniform() < self.null_captions
        x_t = model.process.q_sample(x0, t, noise)
        output = model(x_t, t, token_inputs(model, batch, dropped)).float()
        terms = loss_terms(model.process, self.loss, output, x0, x_t, t, noise)
        alpha_bar = model.process.alpha_bar
        alpha, sigma = gather(np.sqrt(alpha_bar), t, x0), gather(np.sqrt(1.0 - alpha_bar), t, x0)
        predicted = to_x0(model.config.process.prediction, output.detach(), x_t, alpha, sigma)
        return {**terms, "cosine": F.cosine_similarity(model.embeddings(predicted), z, dim=1)}


def embedding_statistics(
    encoder: PretrainedImages, images: Iterable[Tensor]
) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Mean and standard deviation of each number of the embeddings of pictures [N,C,H,W] in [-1, 1], and True where all
    of them have norm 1.

    A number that never changes has deviation 1.
    """
    z = torch.cat([encoder.encode(part).cpu() for part in images]).double()
    std = z.std(dim=0, unbiased=False)
    std = torch.where(std > 1e-6, std, torch.ones_like(std))
    unit = bool((z.norm(dim=1) - 1.0).abs().max() < UNIT)
    return tuple(z.mean(dim=0).tolist()), tuple(std.tolist()), unit
