"""Perturbed-attention guidance (2403.17377), which needs no condition."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from glide.utils.errors import InputError
from guidance.base import EVERYWHERE, Reference
from guidance.contrast import Contrast
from guidance.entry import GuidanceEntry, Interval, Option

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Network
    from glide.networks.unet import UNet
    from guidance.context import GuidanceInputs


class RunsUNet(Protocol):
    """A U-Net, as it is or compiled."""

    def __call__(self, x: Tensor, t: Tensor, cond: Conditioning, *, identity: Collection[str]) -> Tensor: ...


@dataclass(frozen=True, eq=False)
class PerturbedAttention(Contrast):
    """Guides away from a picture that has lost its structure: x0 = main + scale * (main - perturbed).

    scale 0 is none. perturbed: the `perturbed` network with the same condition.
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


def choose_layers(unet: UNet, names: str) -> tuple[str, ...]:
    """The attention layers of a U-Net that are named, with commas between. InputError for one that is not there."""
    layers = unet.attention_layers()
    if not layers:
        raise InputError(
            "got perturbed-attention guidance for a network whose pixels do not attend to each other, expected one "
            "where they do: leave it out"
        )
    wanted = tuple(name.strip() for name in names.split(","))
    for name in wanted:
        if name not in layers:
            raise InputError(
                f"got the attention layer {name!r}, expected some of {', '.join(layers)}: choose from these"
            )
    return wanted


def perturbed(unet: RunsUNet, layers: Sequence[str]) -> Network:
    """The same network with the identity for an attention map in these layers: each pixel attends to itself alone.

    Where a layer also attends to captions, it no longer does. The network itself is as it was, for other threads too.
    """

    def run(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return unet(x, t, cond, identity=layers)

    return run


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> PerturbedAttention:
    context = inputs.context
    layers = choose_layers(context.unet, inputs.options.pag_layers)
    predict = context.predict_by(perturbed(context.runner, layers))
    return PerturbedAttention(scale, Reference(predict, inputs.cond), interval)


ENTRY = GuidanceEntry(
    "pag",
    "away from the model with perturbed attention; needs no caption",
    build,
    scale=2.0,
    options=(
        Option(
            "pag_layers",
            str,
            "middle",
            "NAME,NAME",
            "The attention layers to perturb; a wrong name lists those that there are.",
        ),
    ),
)
