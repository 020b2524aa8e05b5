"""Perturbed-attention guidance (2403.17377), which needs no condition."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from glide.conditioning import Cond
from glide.denoise import Network
from glide.errors import InputError
from glide.nn import Attention
from glide.unet import Block, UNet
from guidance.compose import EVERYWHERE, Reference
from guidance.contrast import Contrast


@dataclass(frozen=True, eq=False)
class PerturbedAttention(Contrast):
    """Away from a picture that has lost its structure: x0 = main + scale * (main - perturbed).

    scale 0 is none. perturbed: the same condition told to the `perturbed` network.
    """

    scale: float
    perturbed: Reference
    interval: tuple[int, int] = EVERYWHERE

    @property
    def weight(self) -> float:
        return self.scale

    @property
    def references(self) -> tuple[Reference, ...]:
        return (self.perturbed,)


def attention_layers(unet: UNet) -> dict[str, Attention]:
    """The layers of a U-Net by name, in the order in which a picture goes through: down.1, ..., middle, up.0, ..."""
    blocks = [
        *((f"down.{i}", block) for i, block in enumerate(unet.down)),
        ("middle", unet.middle_in),
        *((f"up.{i}", block) for i, block in enumerate(unet.up)),
    ]
    return {
        name: block.attn
        for name, block in blocks
        if isinstance(block, Block) and isinstance(block.attn, Attention)
    }


def choose_layers(unet: UNet, names: str) -> list[Attention]:
    """The layers of a U-Net by their names, with commas between. InputError for one that is not there."""
    layers = attention_layers(unet)
    if not layers:
        raise InputError(
            "got perturbed-attention guidance for a network whose pixels do not attend to each other, expected one "
            "where they do: leave it out"
        )
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in layers:
            raise InputError(
                f"got the attention layer {name!r}, expected some of {', '.join(layers)}: choose from these"
            )
    return [layers[name] for name in wanted]


def perturbed(network: Network, layers: Iterable[Attention]) -> Network:
    """The same network with the identity for an attention map in these layers: each place sees itself alone.

    Where a layer also attends to captions, it no longer does.
    """
    layers = list(layers)

    def run(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        with _identity(layers):
            return network(x, t, cond)

    return run


@contextmanager
def _identity(layers: Iterable[Attention]) -> Iterator[None]:
    for layer in layers:
        layer.identity = True
    try:
        yield
    finally:
        for layer in layers:
            layer.identity = False
