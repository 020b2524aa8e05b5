"""The guided denoiser: any number of guidances at once, in one call of each network.

Every correction adds to the unguided conditional prediction. So the order of a list does not matter, and each scale
keeps its meaning whatever else is in the list. Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predict, Prediction, pinned
from glide.diffusion.x0_transforms import rescaled
from glide.utils.errors import InputError
from guidance.base import Guidance, Reference


def guide(
    predict: Predict, cond: Conditioning, guidances: Sequence[Guidance] = (), rescale: float = 0.0
) -> GuidedDenoiser:
    """The denoiser conditioned on `cond`, corrected by every guidance in the list; arguments as of `GuidedDenoiser`."""
    return GuidedDenoiser(predict, cond, guidances, rescale)


class GuidedDenoiser:
    """A `Denoiser` for one run. Without guidances it is the plain conditional denoiser.

    Stateful guidances begin afresh with it. Each step makes one call of `predict` with `cond` and those references of
    active guidances that differ from it and from each other, and one call of each other network that they refer to.
    """

    x0: Tensor
    """[N,C,H,W], of its last step."""

    def __init__(
        self,
        predict: Predict,
        cond: Conditioning,
        guidances: Sequence[Guidance] = (),
        rescale: float = 0.0,
        x0_maps: Sequence[Callable[[Tensor], Tensor]] = (),
        known: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        """rescale: see `glide.diffusion.x0_transforms`, of all shifts together. x0_maps: applied to x0, in order.

        known: an image [N,C,H,W] and a mask [N,1,H,W], 1 where x0 is pinned to the image (see `pinned`).
        InputError for a negative scale or an interval whose ends are swapped.
        """
        for guidance in guidances:
            _check(guidance)
        self.cond, self.rescale, self.x0_maps, self.known = cond, rescale, x0_maps, known
        self.guidances = [guidance.start() for guidance in guidances]
        # one reference for each different prediction; the first is the main one
        self._references = [Reference(predict, cond)]
        # True where a reference has the main conditioning, which a guidance may change
        self._of_main = [True]
        self._places = [
            [self._place(reference) for reference in guidance.references] for guidance in self.guidances
        ]

    def __call__(self, x: Tensor, t: int) -> Prediction:
        """InputError for two changes of the conditioning at one timestep."""
        self.x0 = x[:0]  # the last one is not held while the next is predicted: it can be large
        active = [
            (guidance, places)
            for scheduled, places in zip(self.guidances, self._places, strict=True)
            if (guidance := scheduled.at(t)).active(t)
        ]
        acting = [guidance for guidance, _ in active]
        cond = _changed(self.cond, acting, t)
        needed = sorted({0, *(place for _, places in active for place in places)})
        found: dict[int, Prediction] = {}
        for predict in dict.fromkeys(self._references[place].predict for place in needed):
            batch = [place for place in needed if self._references[place].predict == predict]
            conds = [self._condition_of(place, cond, acting, t) for place in batch]
            inner = batch[0] == 0 and any(guidance.reads_inner_head for guidance in acting)
            predictions = predict(x, t, conds, inner=True) if inner else predict(x, t, conds)
            found |= zip(batch, predictions, strict=True)
        main = found[0]
        x0, grad = main.x0, main.grad
        for guidance, places in active:
            shift = guidance.shift(main, [found[place] for place in places])
            gradient = guidance.gradient(x, t)
            x0 = x0 if _is_zero(shift) else x0 + shift
            grad = gradient if _is_zero(grad) else grad + gradient
        prediction = self._projected(replace(main, x0=rescaled(main.x0, x0, self.rescale), grad=grad))
        self.x0 = prediction.x0
        return prediction

    def _projected(self, prediction: Prediction) -> Prediction:
        """With x0 sent through the maps, and pinned where it is known."""
        x0 = prediction.x0
        for change in self.x0_maps:
            x0 = change(x0)
        prediction = replace(prediction, x0=x0)
        # after the maps, which may scale a whole picture
        return prediction if self.known is None else pinned(prediction, *self.known)

    def _condition_of(
        self, place: int, cond: Conditioning, active: Sequence[Guidance], t: int
    ) -> Conditioning:
        """The conditioning of a reference at timestep t. cond: the main one. That of another network is as it was."""
        reference = self._references[place]
        if self._of_main[place] or reference.predict != self._references[0].predict:
            return cond if self._of_main[place] else reference.cond
        return _changed(reference.cond, [one for one in active if one.of_references], t)

    def _place(self, reference: Conditioning | Reference) -> int:
        """Index of a reference among the different ones, which grow by it if it is new."""
        main = self._references[0]
        if isinstance(reference, Reference):
            new = reference
        else:  # it differs from the main conditioning in words; its pixels stay
            new = Reference(main.predict, reference.sharing_planes(main.cond))
        for place, old in enumerate(self._references):
            if new.predict == old.predict and new.cond.same(old.cond):
                return place
        self._references.append(new)
        self._of_main.append(new.cond.same(main.cond))
        return len(self._references) - 1


def _is_zero(x: Tensor | float) -> bool:
    """True if it may be left out of a sum, which would walk through the pictures for nothing."""
    return isinstance(x, float) and x == 0.0


def _changed(cond: Conditioning, active: Sequence[Guidance], t: int) -> Conditioning:
    """The conditioning that the active guidances ask for at timestep t. InputError for two changes of one part."""
    changes = [_difference(cond, new) for one in active if (new := one.condition(cond, t)) is not cond]
    together: dict[str, Any] = {}
    for change in changes:
        if together.keys() & change.keys():
            raise InputError(
                f"got {len(changes)} guidances that change the condition at timestep {t}, expected one: leave one "
                "out, or give them intervals that do not meet"
            )
        together |= change
    if "tokens" in together:  # cached keys and values belong to the old ones
        together["keys"] = None
    return replace(cond, **together)


def _difference(old: Conditioning, new: Conditioning) -> dict[str, Any]:
    """The parts of `new` that are not those of `old`, by name."""
    names = [field.name for field in fields(Conditioning)]
    return {name: getattr(new, name) for name in names if getattr(new, name) is not getattr(old, name)}


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
