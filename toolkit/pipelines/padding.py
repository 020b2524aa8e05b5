"""Fill the places of fixed-size network calls that a run leaves over.

Shape letters: N pictures in the loop, C channels, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from guidance.base import Guidance, GuidanceWrapper, Reference


@dataclass(frozen=True)
class Padding:
    """The places of a run's calls: `front` ones to fill, the pictures, `back` ones to fill."""

    front: int
    pictures: int
    back: int

    @staticmethod
    def of(pictures: int, first: int, size: int) -> "Padding":
        """Places for so many pictures in calls of `size`, the first one in place `first` of its call."""
        return Padding(first, pictures, -(first + pictures) % size)

    @property
    def real(self) -> slice:
        return slice(self.front, self.front + self.pictures)

    def fill(self, rows: Tensor) -> Tensor:
        """[pictures,...] -> [N,...]: copies of the first and last row in the places left over."""
        return torch.cat(
            [rows[:1].expand(self.front, *rows.shape[1:]), rows, rows[-1:].expand(self.back, *rows.shape[1:])]
        )

    def fill_cond(self, cond: Conditioning) -> Conditioning:
        if cond.rows in (None, 1):
            return cond
        return Conditioning(**{name: self.fill(part) for name, part in cond.parts().items()})


@dataclass(frozen=True, eq=False)
class RealRowsOnly(GuidanceWrapper):
    """A guidance that was made for the pictures alone, in a loop that also has places to fill."""

    inner: Guidance
    places: Padding

    @property
    def references(self) -> tuple[Conditioning | Reference, ...]:
        return tuple(self._fill_reference(reference) for reference in self.inner.references)

    def start(self) -> "RealRowsOnly":
        return RealRowsOnly(self.inner.start(), self.places)

    def at(self, t: int) -> "RealRowsOnly":
        return RealRowsOnly(self.inner.at(t), self.places)

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        real = cond if cond.rows in (None, 1) else cond[self.places.real]
        new = self.inner.condition(real, t)
        return cond if new is real else self.places.fill_cond(new)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        return self._fill(self.inner.shift(self._real(main), [self._real(other) for other in references]))

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        return self._fill(self.inner.gradient(x[self.places.real], t))

    def _real(self, prediction: Prediction) -> Prediction:
        real = self.places.real
        v = None if prediction.v is None else prediction.v[real]
        inner = None if prediction.inner is None else prediction.inner[real]
        return replace(prediction, x0=prediction.x0[real], v=v, inner=inner)

    def _fill_reference(self, reference: Conditioning | Reference) -> Conditioning | Reference:
        if isinstance(reference, Reference):
            return replace(reference, cond=self.places.fill_cond(reference.cond))
        return self.places.fill_cond(reference)

    def _fill(self, value: Tensor | float) -> Tensor | float:
        return self.places.fill(value) if isinstance(value, Tensor) else value
