"""Self-conditioning in sampling: the network receives its own last estimate of x0 (2208.04202, section 3.2).

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predict, Prediction, clamp


class SelfConditioned:
    """A `Predict` that keeps its last estimate, for one run: make a new one for each run.

    All conditionings of a call receive the same estimate, that of the first one, which is the picture's own: so a
    guidance contrasts conditionings and nothing else. The first call, and one of another shape, receives zeros.
    """

    def __init__(self, predict: Predict, bound: Callable[[Tensor], Tensor] = clamp) -> None:
        """bound: applied to the estimate, as in training."""
        self.predict, self.bound = predict, bound
        self.last: Tensor | None = None  # [N,C,H,W]

    def __call__(
        self, x: Tensor, t: int, conds: Sequence[Conditioning], inner: bool = False
    ) -> list[Prediction]:
        last = self.last
        if last is None or last.shape != x.shape:
            last = torch.zeros_like(x)
        conditioned = [
            replace(cond.repeat(len(x)) if cond.rows == 1 else cond, estimate=last) for cond in conds
        ]
        predictions = (
            self.predict(x, t, conditioned, inner=True) if inner else self.predict(x, t, conditioned)
        )
        self.last = self.bound(predictions[0].x0.detach())
        return predictions
