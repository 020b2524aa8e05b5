"""Guidance, and guide(): any number of them at once, in one network call.

Shape letters: N batch, C channels, H W pixels, K conditionings.

Every correction adds to the unguided conditional prediction. So the order of a list does not matter, and each
scale keeps its meaning whatever else is in the list.
"""

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from glide.conditioning import Cond
from glide.denoise import Denoiser, Predict, Prediction
from glide.errors import InputError

EVERYWHERE = (0, 10**9)


class Guidance(ABC):
    """One way to steer. Plug-ins are frozen dataclasses that override `shift`, `gradient`, or both.

    scale: strength, at least 0. interval: first and last training timestep, both included, at which it acts
    (2404.07724): training timesteps, so that it does not depend on respacing.
    """

    scale: float
    interval: tuple[int, int]

    @property
    def name(self) -> str:
        """What messages call it."""
        return type(self).__name__

    @property
    def references(self) -> tuple[Cond, ...]:
        """Further conditionings whose predictions `shift` wants; they join the main network call."""
        return ()

    def active(self, t: int) -> bool:
        """Whether it acts at training timestep t; where it does not, it costs nothing."""
        return self.interval[0] <= t <= self.interval[1]

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        """What it adds to x0 [N,C,H,W]: a contrast of the main prediction with those of `references`."""
        return 0.0

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        """What it adds to the gradient of log p(y | x_t) [N,C,H,W], scale included; the sampler spends it."""
        return 0.0


def guide(predict: Predict, cond: Cond, guidances: Sequence[Guidance] = ()) -> Denoiser:
    """The denoiser of `cond`, steered by every guidance in the list; of none, the plain conditional denoiser.

    Each step makes one call of `predict` with `cond` and those references of active guidances that differ
    from it and from each other. Raises InputError for a negative scale or an interval whose ends are swapped.
    """
    for guidance in guidances:
        _check(guidance)
    distinct: list[Cond] = [cond]
    places = [[_place(reference, distinct) for reference in guidance.references] for guidance in guidances]

    def denoise(x: Tensor, t: int) -> Prediction:
        active = [
            (guidance, at) for guidance, at in zip(guidances, places, strict=True) if guidance.active(t)
        ]
        needed = sorted({0, *(place for _, at in active for place in at)})
        predictions = dict(zip(needed, predict(x, t, [distinct[place] for place in needed]), strict=True))
        main = predictions[0]
        x0, grad = main.x0, main.grad
        for guidance, at in active:
            x0 = x0 + guidance.shift(main, [predictions[place] for place in at])
            grad = grad + guidance.gradient(x, t)
        return replace(main, x0=x0, grad=grad)

    return denoise


def _place(cond: Cond, distinct: list[Cond]) -> int:
    """Where `cond` is in the list, which grows by it if it is new."""
    for place, other in enumerate(distinct):
        if cond.same(other):
            return place
    distinct.append(cond)
    return len(distinct) - 1


def _check(guidance: Guidance) -> None:
    if not (math.isfinite(guidance.scale) and guidance.scale >= 0.0):
        raise InputError(
            f"got scale {guidance.scale} for {guidance.name}, expected a number of at least 0: try 3"
        )
    if guidance.interval[0] > guidance.interval[1]:
        raise InputError(
            f"got interval {guidance.interval} for {guidance.name}, expected the first training timestep not "
            "above the last: swap them"
        )
