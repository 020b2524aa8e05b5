"""The sizes of a model's pictures: those that it was trained on, its default, and others that its network can take.

Sizes are (H, W).
"""

from __future__ import annotations

from glide.networks.config import ModelConfig
from glide.utils.errors import warn
from glide.utils.picture_size import Size, check_multiple, is_far, parse_size, size_text

SHOWN = 4
"""Sizes that a message names, at most."""


def trained_sizes(config: ModelConfig) -> tuple[Size, ...]:
    """The sizes of the pictures that a model was trained on, the default first."""
    if not config.sizes:
        return ((config.picture_size, config.picture_size),)
    return tuple(parse_size(text, "model.sizes") for text in config.sizes)


def default_size(config: ModelConfig) -> Size:
    """The size of the pictures that a model draws where none is asked for."""
    return trained_sizes(config)[0]


def in_first_stage(config: ModelConfig, size: Size | None = None) -> Size:
    """The size (h, w) of what the U-Net draws, pixels or latents, for pictures of a size, by default the model's."""
    height, width = size or default_size(config)
    factor = config.first_stage.factor if config.first_stage else 1
    return height // factor, width // factor


def multiple_of(config: ModelConfig) -> int:
    """The number that heights and widths of a model's pictures are multiples of."""
    return config.unet.factor * (config.first_stage.factor if config.first_stage else 1)


def size_to_draw(config: ModelConfig, size: Size, name: str = "--size") -> Size | None:
    """A size that a model is asked to draw; None for its default.

    Warns of one that is far from those of the training. InputError for one that the network cannot take, with the
    nearest that it can.
    """
    if size == default_size(config):
        return None
    check_multiple(size, multiple_of(config), name)
    trained = trained_sizes(config)
    if is_far(size, trained):
        some = ", ".join(size_text(one) for one in trained[:SHOWN]) + (
            ", ..." if len(trained) > SHOWN else ""
        )
        warn(
            f"{size_text(size)} is far from the sizes that the model was trained on ({some}): it may repeat or cut "
            "what it draws",
            stacklevel=3,
        )
    return size
