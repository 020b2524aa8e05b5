"""Contrast: guidance away from a worse prediction of the same picture.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from guidance.base import Guidance

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.denoiser import Prediction


class Contrast(Guidance):
    """x0 = main + weight * (main - worse). The same combination in x0 as in eps: for one x_t they differ linearly.

    Its kinds are frozen dataclasses that say by `references` what is worse.
    """

    @property
    def weight(self) -> float:
        """The step beyond the main prediction: scale 1 is the main, 0 the worse one."""
        return self.scale - 1.0

    def active(self, t: int) -> bool:
        return self.weight != 0.0 and super().active(t)

    def difference(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        """main - worse, in x0 [N,C,H,W]."""
        (worse,) = references
        return main.x0 - worse.x0

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        return self.weight * self.difference(main, references)
