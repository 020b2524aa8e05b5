"""Convert pictures to a model's channels: 1 (grey), 3 (RGB) or 4 (RGBA).

Shape letters: N pictures, H W pixels, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.utils.errors import InputError

MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # channels -> Pillow's mode
LUMA = (19595, 38470, 7471)  # weights of red, green and blue, out of 2**16: ITU-R 601, rounded as in Pillow


def check_channels(channels: int, of: str) -> str:
    """Pillow's mode for a number of channels. InputError for other numbers; `of`: their owner, for the message."""
    if channels not in MODES:
        raise InputError(
            f"{of} has {channels} channels, which no picture has: expected 1 (grey), 3 (RGB) or 4 (RGBA)"
        )
    return MODES[channels]


def on_white(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB, with transparency on white."""
    if picture.mode == "RGB":
        return picture
    if picture.mode != "RGBA":
        picture = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")


def in_mode(picture: Image.Image, channels: int) -> Image.Image:
    """RGB or RGBA -> a picture of C channels, with transparency on white unless C is 4."""
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
