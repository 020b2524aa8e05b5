"""Classifier-free guidance (2207.12598)."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from glide.conditioning import Cond
from glide.denoise import Prediction
from guidance.compose import EVERYWHERE, Guidance


@dataclass(frozen=True, eq=False)
class ClassifierFree(Guidance):
    """Away from what the model predicts without the condition: x0 = null + scale * (conditional - null).

    Eq. 6 there, with scale = 1 + w; the same combination in x0 as in eps, since the two differ linearly for
    one x_t. scale 1 is the conditional model, 0 the unconditional one. null: the condition left out, with all
    else (planes) as in the main one.
    """

    scale: float
    null: Cond
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Cond, ...]:
        return (self.null,)

    def active(self, t: int) -> bool:
        return self.scale != 1.0 and super().active(t)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        (null,) = references
        return (self.scale - 1.0) * (main.x0 - null.x0)
