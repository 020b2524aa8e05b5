"""The part of a model that a run trains; the rest keeps the weights of --init, and has no optimizer state."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn

from glide.networks.blocks import Attention, TokenAttention
from glide.networks.model import Model
from glide.training.train_base_flags import TrainedPart
from glide.utils.errors import InputError
from glide.utils.printable import few

_TEXT = ("text.", "text_vector.", "label.")
_INNER = ("unet.inner_norm.", "unet.inner_head.")
_MISSING = {
    "text": "neither captions nor classes",
    "attention": "no attention",
    "inner-head": "no inner head (--inner-head)",
}
"""By part, the description of a model without it."""


def train_only(model: Model, part: TrainedPart) -> None:
    """Freeze every weight of the model outside this part. InputError for a part that the model does not have."""
    if part == "all":
        return
    learned = _names(model, part)
    if not learned:
        raise InputError(
            f"got --train {part} for a model with {_MISSING[part]}, expected one with it: leave it out"
        )
    for name, weight in model.named_parameters():
        weight.requires_grad_(name in learned)


def check_source(model: Model, part: TrainedPart, source: Model | None, fresh: Collection[str]) -> None:
    """InputError for a part of a model whose other weights have learned nothing yet.

    fresh: names of the weights that start from scratch.
    """
    if part == "all":
        return
    if source is None:
        raise InputError(
            f"got --train {part} for a model that starts from scratch, expected --init with the weights of the other "
            "parts: give it, or leave --train out"
        )
    learned = _names(model, part)
    if frozen := [name for name in fresh if name not in learned]:
        raise InputError(
            f"got --train {part}, which would leave {few(frozen, 3)} untrained, expected a model of --init that has "
            "them: leave --train out"
        )


def _names(model: Model, part: TrainedPart) -> set[str]:
    """Names of the weights of a part."""
    names = [name for name, _ in model.named_parameters()]
    if part == "text":
        return {name for name in names if name.startswith(_TEXT)}
    if part == "inner-head":
        return {name for name in names if name.startswith(_INNER)}
    if part == "unet":
        return {name for name in names if name.startswith("unet.")}
    layers = [f"{name}." for name, layer in model.named_modules() if _attends(layer)]
    return {name for name in names if name.startswith(tuple(layers))} if layers else set()


def _attends(layer: nn.Module) -> bool:
    """True for the U-Net's attention, to pixels or to tokens."""
    return isinstance(layer, Attention | TokenAttention)
