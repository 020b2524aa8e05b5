"""Guidance by the pictures that a model is conditioned on, apart from words (InstructPix2Pix, 2211.09800, eq. 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Guidance
from guidance.entry import GuidanceEntry, Interval

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Prediction
    from guidance.context import GuidanceInputs


@dataclass(frozen=True, eq=False)
class PictureGuidance(Guidance):
    """Guides towards the picture: x0 moves by (scale - 1) * (picture alone - neither picture nor words).

    Beside classifier-free guidance of scale w, which guides by the words with the picture given, the sum is eq. 3
    there: neither + scale * (picture - neither) + w * (both - picture). Scale 1 changes nothing; a run with scale 0
    leaves the picture out altogether (`toolkit.pipelines.conditions`).
    """

    scale: float
    picture: Conditioning  # [N,...] or [1,...], whose planes are then those of the main one
    neither: Conditioning  # [N,...]
    interval: tuple[int, int] = EVERYWHERE

    def active(self, t: int) -> bool:
        return self.scale != 1.0 and super().active(t)

    @property
    def references(self) -> tuple[Conditioning, ...]:
        return self.picture, self.neither

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        picture, neither = references
        return (self.scale - 1.0) * (picture.x0 - neither.x0)


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> PictureGuidance:
    """Guide by the conditions of the requests. InputError for a model, or requests, without them."""
    conditioner = inputs.context.conditioner
    config = conditioner.model.config
    if not config.conditioned_on_pictures:
        raise InputError(
            "got the guidance picture for a model that is conditioned on no picture, expected one that is: leave it out"
        )
    if not config.null_condition:
        raise InputError(
            "got the guidance picture for a model that was always given its pictures, expected one that was trained "
            "with --null-conditions above 0: leave it out"
        )
    if not all(request.given.has_conditions for request in inputs.requests):
        raise InputError(
            "got the guidance picture without a condition, expected one: give --condition, or --like-image or --prior "
            "to a model of image embeddings"
        )
    without = [replace(row, given=row.given.without_conditions()) for row in inputs.requests]
    planes = inputs.cond.planes
    size = None if planes is None else (planes.shape[-2], planes.shape[-1])
    images = conditioner.images_of(without, size)
    words = conditioner.null() if conditioner.has_null else replace(inputs.cond, planes=None, level=None)
    picture = words if conditioner.has_null else inputs.cond
    return PictureGuidance(scale, picture, words.rows_of(len(without)).joined(images), interval)


ENTRY = GuidanceEntry(
    "picture",
    "the pictures that the model is conditioned on (--condition, --like-image, --prior); scale 1 is none",
    build,
    scale=1.5,
    neutral=1.0,
)
