"""Network calls of one fixed size, which make a picture independent of what is drawn beside it, bit for bit.

Shape letters: N pictures in the loop, G pictures in a call, C channels, H W pixels.

A matrix product on a CPU or GPU is cut into blocks by its shape and by the number of threads, and float addition is
not associative: the same picture in a batch of 3 and of 16 differs in its last bits (measured here in fp32: 2e-6 of
the output's deviation after one call), which fifty steps can turn into another picture. Even the place in the batch
can matter, where the rows do not divide evenly among the threads. So within a run the network always gets G pictures,
the missing ones filled in, and picture i is always in place i mod G of its call, whatever the batch size. Both numbers
are part of a picture's recipe. G follows the number of pictures of the run: one picture does not pay for places that
nobody asked for, and many share large calls. So the same picture of two runs of different sizes differs by rounding.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network, Predict, Prediction, predictor
from glide.networks.model import Model
from glide.networks.unet import UNet
from guidance.base import Guidance, Reference

SMALL = 50_000_000  # parameters: below it, one picture alone does not keep a CPU busy

Row = TypeVar("Row")


def default_call_size(model: Model, device: torch.device) -> int:
    """The largest G for a model on a device: enough pictures to keep it busy, few enough to fit into its memory."""
    most = 32
    if device.type == "cpu":
        most = 8 if sum(p.numel() for p in model.parameters()) < SMALL else 1
    return max(1, min(most, most * 64**2 // model.config.unet.image_size**2))


def call_size_of(pictures: int, most: int) -> int:
    """G for a run of so many pictures: the fewest calls of at most `most`, all of one size, with few places to fill."""
    calls = -(-pictures // most)
    return -(-pictures // calls)


def whole_calls(pictures: int, size: int) -> int:
    """So many pictures, rounded up to what fills calls of `size`."""
    return -(-pictures // size) * size


def batches(
    pictures: Sequence[Row], size: int, call_size: int, place: int = 0
) -> Iterator[tuple[int, Sequence[Row]]]:
    """A run cut into batches of whole network calls, at least `size` pictures each, with the index of its first one.

    place: of the run's first picture in its call.
    """
    size = whole_calls(size, call_size)
    start, stop = 0, size - place % call_size
    while start < len(pictures):
        yield start, pictures[start:stop]
        start, stop = stop, stop + size


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `dtype`; nothing at all for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def network_of(unet: Network | UNet) -> Network:
    """The U-Net, or what stands for it, run in the memory format in which it is fastest."""

    def network(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return unet(x.contiguous(memory_format=torch.channels_last), t, cond)

    return network


def predict_by(network: Network, model: Model, size: int | None) -> Predict:
    """A `Predict` of a network that stands for the model's, in calls of `size` pictures; None: of all at once."""
    predict = predictor(network, model.process, model.config.process.prediction)
    return predict if size is None else in_calls(predict, size)


def in_calls(predict: Predict, size: int) -> Predict:
    """The same `Predict` on N pictures, N a multiple of `size`, by N / size calls of exactly `size` pictures."""

    def predict_in_calls(x: Tensor, t: int, conds: Sequence[Conditioning]) -> list[Prediction]:
        assert len(x) % size == 0, f"{len(x)} pictures do not fill calls of {size}"
        if len(x) == size:
            return predict(x, t, conds)
        places = [slice(start, start + size) for start in range(0, len(x), size)]
        parts = [predict(x[place], t, [_rows(cond, place) for cond in conds]) for place in places]
        return [_join(of_cond) for of_cond in zip(*parts, strict=True)]

    return predict_in_calls


def _rows(cond: Conditioning, place: slice) -> Conditioning:
    """A conditioning of one row serves every picture and stays."""
    return cond if cond.rows in (None, 1) else cond[place]


def _join(parts: Sequence[Prediction]) -> Prediction:
    v = [part.v for part in parts if part.v is not None]
    return Prediction(torch.cat([part.x0 for part in parts]), torch.cat(v) if v else None)  # [N,C,H,W]


@dataclass(frozen=True)
class Padding:
    """Where the pictures of a run stand among the places that its calls have: `front`, the pictures, `back`."""

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
class RealRowsOnly(Guidance):
    """A guidance that was made for the pictures alone, in a loop that also has places to fill."""

    inner: Guidance
    places: Padding

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self.inner.scale

    @property
    def interval(self) -> tuple[int, int]:  # type: ignore[override]
        return self.inner.interval

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def references(self) -> tuple[Conditioning | Reference, ...]:
        return tuple(self._fill_reference(reference) for reference in self.inner.references)

    def start(self) -> "RealRowsOnly":
        return RealRowsOnly(self.inner.start(), self.places)

    def active(self, t: int) -> bool:
        return self.inner.active(t)

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        real = cond if cond.rows in (None, 1) else cond[self.places.real]
        new = self.inner.condition(real, t)
        return cond if new is real else self.places.fill_cond(new)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        return self._fill(self.inner.shift(self._real(main), [self._real(other) for other in references]))

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        return self._fill(self.inner.gradient(x[self.places.real], t))

    def _real(self, prediction: Prediction) -> Prediction:
        v = None if prediction.v is None else prediction.v[self.places.real]
        return replace(prediction, x0=prediction.x0[self.places.real], v=v)

    def _fill_reference(self, reference: Conditioning | Reference) -> Conditioning | Reference:
        if isinstance(reference, Reference):
            return replace(reference, cond=self.places.fill_cond(reference.cond))
        return self.places.fill_cond(reference)

    def _fill(self, value: Tensor | float) -> Tensor | float:
        return self.places.fill(value) if isinstance(value, Tensor) else value
