"""Classifier-free guidance (2207.12598)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.contrast import Contrast
from guidance.entry import GuidanceEntry, Interval, Option
from guidance.student import build_student, receives_strength

if TYPE_CHECKING:
    from glide.diffusion.conditioning import Conditioning
    from guidance.context import GuidanceInputs


@dataclass(frozen=True, eq=False)
class ClassifierFree(Contrast):
    """Guides away from the unconditional prediction: x0 = null + scale * (conditional - null).

    Eq. 6 there, with scale = 1 + w. scale 1 is the conditional model, 0 the unconditional one. null: the condition
    left out, or a negative one in its place, with all else (planes) as in the main one.
    """

    scale: float
    null: Conditioning
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Conditioning, ...]:
        return (self.null,)


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> Guidance:
    """Guide away from the null condition, or from the negative caption or class; a student within its one call."""
    if receives_strength(inputs.context.model.config):
        return build_student(inputs, scale, interval)
    return build_contrast(inputs, scale, interval)


def build_contrast(inputs: GuidanceInputs, scale: float, interval: Interval) -> ClassifierFree:
    """The contrast of two predictions. InputError for a student, whose one prediction is guided already."""
    if receives_strength(inputs.context.model.config):
        raise InputError(
            "got a guidance that contrasts predictions with and without words for a student, which is guided within "
            "its one prediction, expected cfg: write --guidance cfg, or draw with its teacher"
        )
    conditioner, negative = inputs.context.conditioner, inputs.options.negative
    null = conditioner.null() if negative is None else conditioner.negative(negative)
    has_text = conditioner.model.config.reads_captions
    empty = has_text and any(not request.caption for request in inputs.requests)
    if empty and scale not in (0.0, 1.0) and negative is None:
        raise InputError(
            "got an empty caption, expected words to guide towards: describe the picture, or draw one without a "
            "caption by the guidance 'none'"
        )
    return ClassifierFree(scale, null, interval)


NEGATIVE = Option(
    "negative",
    str | None,
    None,
    "TEXT",
    "A caption to be led away from, in place of none; for class-conditional models a class.",
)
ENTRY = GuidanceEntry(
    "cfg", "classifier-free guidance; scale 1 is none", build, scale=3.0, neutral=1.0, options=(NEGATIVE,)
)
