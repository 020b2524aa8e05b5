"""Classifier-free guidance (2207.12598)."""

from __future__ import annotations

from dataclasses import dataclass

from glide.diffusion.conditioning import Conditioning
from guidance.base import EVERYWHERE
from guidance.contrast import Contrast


@dataclass(frozen=True, eq=False)
class ClassifierFree(Contrast):
    """Away from what the model predicts without the condition: x0 = null + scale * (conditional - null).

    Eq. 6 there, with scale = 1 + w. scale 1 is the conditional model, 0 the unconditional one. null: the condition
    left out, or a negative one in its place, with all else (planes) as in the main one.
    """

    scale: float
    null: Conditioning
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Conditioning, ...]:
        return (self.null,)
