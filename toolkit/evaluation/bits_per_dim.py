"""Bits per dimension of pictures under a model: the variational bound, batch after batch (2006.11239, eq. 5).

Shape letters: N pictures, C channels, H W pixels, S steps of the chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.diffusion.denoiser import Prediction, Predictor, Variance, clamp, project
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.variational_bound import bits_per_dimension
from glide.networks.model import Model


@dataclass(frozen=True)
class BitsPerDim:
    """The bound of N pictures over a chain of S steps, in bits per dimension."""

    total: Tensor  # [N]
    prior: Tensor  # [N]: the part of the prior
    terms: Tensor  # [S,N]: the parts of the steps, the noisiest first
    mse: Tensor  # [S,N]: mean squared error of eps

    @property
    def mean(self) -> float:
        return self.total.mean().item()

    @property
    def standard_error(self) -> float:
        """The standard error of the mean; NaN for one picture."""
        count = len(self.total)
        return self.total.std().item() / count**0.5 if count > 1 else float("nan")


def bits_per_dim(
    model: Model,
    batches: Iterable[tuple[Tensor, Mapping[str, Tensor]]],
    process: Process,
    variance: Variance,
    seed: int = 0,
    after_step: Callable[[], object] = lambda: None,
) -> BitsPerDim:
    """The bound of all pictures. Picture i has the noise of the seed `seed + i`.

    batches: x0 [n,C,H,W] from -1 to 1, and what `Model.condition` takes for it. process: the model's, or respaced,
    which gives the bound of the shorter chain. after_step: called after every step of every batch.
    """
    predict = Predictor(model.unet, model.process, model.config.process.prediction)
    totals, priors, terms, mses = [], [], [], []
    first = seed
    for x0, inputs in batches:
        with torch.no_grad():
            cond = model.condition(dict(inputs))

        def denoise(x: Tensor, t: int) -> Prediction:
            return predict(x, t, [cond])[0]

        noise = SeededNoise(range(first, first + len(x0)))
        first += len(x0)
        chain = []
        for step in bits_per_dimension(project(denoise, clamp), process, x0, noise, variance):
            chain.append(step)
            after_step()
        totals.append(chain[-1].total)
        priors.append(chain[-1].prior)
        terms.append(torch.stack([step.vb for step in chain]))
        mses.append(torch.stack([step.mse for step in chain]))
    return BitsPerDim(torch.cat(totals), torch.cat(priors), torch.cat(terms, 1), torch.cat(mses, 1))
