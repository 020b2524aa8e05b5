"""Autoguidance: a model guided by a bad version of itself (2406.02507)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Reference
from guidance.contrast import Contrast
from guidance.entry import GuidanceEntry, Interval, Option

if TYPE_CHECKING:
    from guidance.context import GuidanceInputs


@dataclass(frozen=True, eq=False)
class Autoguidance(Contrast):
    """Guides away from a weaker model with the same condition: x0 = weak + scale * (main - weak).

    scale 1 is the main model. weak: another network, trained for less long or smaller, with its own encoding of the
    same condition; it knows the same noise.
    """

    scale: float
    weak: Reference
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Reference, ...]:
        return (self.weak,)


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> Autoguidance:
    """Load the weaker model and encode the same condition for it. InputError for a model of other pictures."""
    from glide.networks.conditioner import Conditioner
    from guidance.compatibility import check_fits

    context = inputs.context
    weak = context.guide_networks.weak(inputs.options)
    ours, theirs = context.model.config, weak.config
    size, channels = theirs.unet.image_size, theirs.unet.in_channels
    check_fits("weaker model", size, channels, theirs.process, ours, theirs.first_stage)
    if theirs.num_classes and theirs.num_classes != ours.num_classes:
        raise InputError(
            f"got a weaker model of {theirs.num_classes} classes for a model of {ours.num_classes}, expected the same: "
            "give one of the same data"
        )
    planes = inputs.cond.planes
    area = None if planes is None else (planes.shape[-2], planes.shape[-1])
    cond = Conditioner(weak).of(inputs.requests, area)
    return Autoguidance(scale, Reference(context.predict_by(weak.unet, weak), cond), interval)


ENTRY = GuidanceEntry(
    "auto",
    "away from the model --weak; scale 1 is none",
    build,
    scale=1.5,
    neutral=1.0,
    options=(
        Option(
            "weak",
            str | None,
            None,
            "NAME",
            "The weaker model to be led away from: an earlier or smaller one, named as --model.",
        ),
    ),
)
