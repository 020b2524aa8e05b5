"""Exponential moving averages (EMA) of a model's weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glide.training.fsdp import to_local
from glide.training.posthoc_ema import decay as decay_of


class EMA:
    """Exponential moving averages of a model's weights, one for each decay.

    A decay is reached gradually, min(decay, (1 + step) / (10 + step)), so that the first steps are forgotten. If
    weights are sharded, each process averages its parts: averaging is element-wise.
    """

    def __init__(self, model: nn.Module, decays: Sequence[float], widths: Sequence[float] = ()) -> None:
        """widths: relative widths of power-function averages (`glide.training.posthoc_ema`), one average each."""
        self.like = dict(model.named_parameters())
        self.source = {
            k: to_local(p) for k, p in self.like.items()
        }  # their parts in this process, in the same memory
        self.weights = {d: {k: p.clone() for k, p in self.source.items()} for d in decays}
        self.powers = {w: {k: p.clone() for k, p in self.source.items()} for w in widths}

    @property
    def first(self) -> dict[str, Tensor]:
        """The average that is saved as the model."""
        return next(iter(self.weights.values()))

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after step `step` (from 0) to the averages."""
        new: list[Tensor] = list(self.source.values())
        for decay, weights in self.weights.items():
            d = min(decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(weights.values()), new, 1 - d)
        for width, weights in self.powers.items():
            torch._foreach_lerp_(list(weights.values()), new, 1 - decay_of(width, step + 1))
