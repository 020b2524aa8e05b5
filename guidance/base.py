"""Guidance, and guide(): any number of them at once, in one call of each network.

Shape letters: N batch, C channels, H W pixels.

Every correction adds to the unguided conditional prediction. So the order of a list does not matter, and each
scale keeps its meaning whatever else is in the list.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Denoiser, Predict, Prediction
from glide.diffusion.x0_transforms import rescaled
from glide.utils.errors import InputError
from guidance.spec import EVERYWHERE

__all__ = ["EVERYWHERE", "Guidance", "Reference", "guide"]

G = TypeVar("G", bound="Guidance")


@dataclass(frozen=True, eq=False)
class Reference:
    """A conditioning that another network is told: a weaker one, or the same one perturbed."""

    predict: Predict
    cond: Conditioning


class Guidance(ABC):
    """One way to steer. Plug-ins are frozen dataclasses that override `shift`, `gradient` or `condition`.

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
    def references(self) -> tuple[Conditioning | Reference, ...]:
        """Further predictions that `shift` wants. Those of the main network join its call."""
        return ()

    def start(self: G) -> G:
        """The guidance for one run. One that remembers something returns a copy that has not seen anything yet."""
        return self

    def active(self, t: int) -> bool:
        """Whether it acts at training timestep t; where it does not, it costs nothing."""
        return self.interval[0] <= t <= self.interval[1]

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        """What the network is told in place of `cond`, [N,...]; at any timestep one guidance of a list may differ."""
        return cond

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        """What it adds to x0 [N,C,H,W]: a contrast of the main prediction with those of `references`."""
        return 0.0

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        """What it adds to the gradient of log p(y | x_t) [N,C,H,W], scale included; the sampler spends it."""
        return 0.0


def guide(
    predict: Predict, cond: Conditioning, guidances: Sequence[Guidance] = (), rescale: float = 0.0
) -> Denoiser:
    """The denoiser of `cond`, steered by every guidance in the list; of none, the plain conditional denoiser.

    It is for one run: guidances that remember something begin anew with each call of `guide`. Each step makes one call
    of `predict` with `cond` and those references of active guidances that differ from it and from each other, and one
    of each other network that they refer to. rescale: see `glide.diffusion.x0_transforms`, of all shifts together.
    Raises InputError for a negative scale, an interval whose ends are swapped, or two changes of the condition.
    """
    for guidance in guidances:
        _check(guidance)
    started = [guidance.start() for guidance in guidances]
    asked = _Asked(predict, cond)
    places = [[asked.place(reference) for reference in guidance.references] for guidance in started]

    def denoise(x: Tensor, t: int) -> Prediction:
        active = [(guidance, at) for guidance, at in zip(started, places, strict=True) if guidance.active(t)]
        told = _told(cond, [guidance for guidance, _ in active], t)
        needed = sorted({0, *(place for _, at in active for place in at)})
        predictions = asked.answers(x, t, needed, told)
        main = predictions[0]
        x0, grad = main.x0, main.grad
        for guidance, at in active:
            shift = guidance.shift(main, [predictions[place] for place in at])
            pull = guidance.gradient(x, t)
            x0 = x0 if _none(shift) else x0 + shift
            grad = pull if _none(grad) else grad + pull
        return replace(main, x0=rescaled(main.x0, x0, rescale), grad=grad)

    return denoise


class _Asked:
    """What networks are asked in a run, the main question first; each is asked all of a step at once."""

    def __init__(self, predict: Predict, cond: Conditioning) -> None:
        self.questions = [Reference(predict, cond)]
        # whether a question is of the main condition, for which a guidance may put another
        self.of_main = [True]

    def place(self, reference: Conditioning | Reference) -> int:
        """Where it is among the questions, which grow by it if it is new."""
        main = self.questions[0]
        if isinstance(reference, Reference):
            new = reference
        else:  # it differs from the main condition in words; what is seen in pixels stays
            new = Reference(main.predict, reference.sharing_planes(main.cond))
        for place, old in enumerate(self.questions):
            if new.predict == old.predict and new.cond.same(old.cond):
                return place
        self.questions.append(new)
        self.of_main.append(new.cond.same(main.cond))
        return len(self.questions) - 1

    def answers(self, x: Tensor, t: int, needed: Sequence[int], told: Conditioning) -> dict[int, Prediction]:
        """The predictions of the questions at the places `needed`, with `told` as the main condition."""
        found: dict[int, Prediction] = {}
        for predict in dict.fromkeys(self.questions[place].predict for place in needed):
            places = [place for place in needed if self.questions[place].predict == predict]
            conds = [told if self.of_main[place] else self.questions[place].cond for place in places]
            found |= zip(places, predict(x, t, conds), strict=True)
        return found


def _none(x: Tensor | float) -> bool:
    """Whether it may be left out of a sum, which would walk through the pictures for nothing."""
    return isinstance(x, float) and x == 0.0


def _told(cond: Conditioning, active: Sequence[Guidance], t: int) -> Conditioning:
    changed = [new for guidance in active if (new := guidance.condition(cond, t)) is not cond]
    if len(changed) > 1:
        raise InputError(
            f"got {len(changed)} guidances that change the condition at timestep {t}, expected one: leave one out, "
            "or give them intervals that do not meet"
        )
    if not changed:
        return cond
    (new,) = changed
    # the keys and values of other tokens than those that it now has would be believed
    return new if new.tokens is cond.tokens else replace(new, keys=None)


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
