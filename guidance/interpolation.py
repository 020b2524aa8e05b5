"""Interpolation between two conditions, and between two latents.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from guidance.base import EVERYWHERE, Guidance


@dataclass(frozen=True, eq=False)
class BetweenConditions(Guidance):
    """Conditions the network on (1 - share) * condition + share * other: captions and classes, as they are encoded."""

    other: Conditioning  # [N,...] or [1,...]
    share: Tensor  # [N] from 0 to 1
    scale: float = 1.0
    interval: tuple[int, int] = EVERYWHERE

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        def mixed(one: Tensor | None, other: Tensor | None) -> Tensor | None:
            if one is None or other is None:
                return one
            share = self.share.to(one).reshape(-1, *[1] * (one.ndim - 1))
            return one + share * (other - one)

        return replace(
            cond,
            vector=mixed(cond.vector, self.other.vector),
            tokens=mixed(cond.tokens, self.other.tokens),
        )


@dataclass(frozen=True, eq=False)
class BetweenPredictions(Guidance):
    """x0 moves by scale * share * (the prediction for the other condition - the main one).

    Beside classifier-free guidance of scale s it takes one of scale 1 and one of scale s - 1 to lead to the mixture as
    strongly as to either: null + s * ((1 - share) * main + share * other - null).
    """

    scale: float
    other: Conditioning  # [N,...] or [1,...]
    share: Tensor  # [N] from 0 to 1
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Conditioning, ...]:
        return (self.other,)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        (other,) = references
        return self.scale * self.share.to(main.x0).reshape(-1, 1, 1, 1) * (other.x0 - main.x0)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """From latent a [C,H,W] to b on the arc between them, 0 to 1 (2010.02502, section 5.3): noise keeps its strength.

    The straight line where they have next to no angle.
    """
    x, y = a.double().flatten(), b.double().flatten()
    cosine = float((x @ y / (x.norm() * y.norm()).clamp(min=1e-12)).clamp(-1.0, 1.0))
    angle = torch.arccos(torch.tensor(cosine, dtype=torch.float64))
    if float(angle.sin()) < 1e-6:
        return a + share * (b - a)
    of_a = float(((1 - share) * angle).sin() / angle.sin())
    of_b = float((share * angle).sin() / angle.sin())
    return of_a * a + of_b * b
