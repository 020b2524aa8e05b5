"""Pictures with as many channels as a model has: 1 is grey, 3 are red, green and blue, 4 are these and transparency.

Shape letters: N pictures, H W pixels, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.utils.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's mode
LUMA = (19595, 38470, 7471)  # of red, green and blue, of 2**16 in all: ITU-R 601, as Pillow rounds it


def check_channels(channels: int, of: str) -> str:
    """Pillow's mode for pictures of so many channels. InputError for numbers that have none; `of`: who has them."""
    if channels not in MODES:
        raise InputError(
            f"{of} has {channels} channels, which are no colours of a picture: expected 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
    return MODES[channels]


def on_white(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB, what is transparent laid on white."""
    if picture.mode == "RGB":
        return picture
    if picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def in_mode(picture: Image.Image, channels: int) -> Image.Image:
    """RGB or RGBA -> a picture of C channels; one that cannot show transparency has it laid on white."""
    if channels == 4:
        return picture.convert("RGBA")
    return on_white(picture).convert(check_channels(channels, "the data"))


def in_channels(pixels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """uint8 [...,3] -> uint8 [...,C], as `in_mode`; 4 channels are opaque."""
    if channels == 3:
        return pixels
    if channels == 4:
        return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], axis=-1)
    check_channels(channels, "the data")
    weighted = pixels.astype(np.uint32) * np.array(LUMA, np.uint32)
    return ((weighted.sum(-1, keepdims=True) + 2**15) >> 16).astype(np.uint8)
