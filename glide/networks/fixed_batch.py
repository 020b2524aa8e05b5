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
from typing import TypeVar

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network, Predict, Prediction, predictor
from glide.networks.model import Model
from glide.networks.unet import UNet

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
