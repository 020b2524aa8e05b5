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
from typing import Any, TypeVar

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network
from glide.networks.model import Model
from glide.networks.picture_sizes import in_first_stage

SMALL = 50_000_000  # parameters: below it, one picture alone does not keep a CPU busy

Row = TypeVar("Row")


def default_call_size(model: Model, device: torch.device) -> int:
    """The largest G for a model on a device: enough pictures to keep it busy, few enough to fit into its memory."""
    most = 32
    if device.type == "cpu":
        most = 8 if sum(p.numel() for p in model.parameters()) < SMALL else 1
    height, width = in_first_stage(model.config)
    return max(1, min(most, most * 64**2 // (height * width)))


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


def channels_last(network: Network) -> Network:
    """The network with x_t in the memory format in which U-Nets are fastest, whatever it is called with."""

    def run(x: Tensor, t: Tensor, cond: Conditioning, **more: Any) -> Tensor:
        return network(x.contiguous(memory_format=torch.channels_last), t, cond, **more)

    return run
