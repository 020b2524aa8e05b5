"""Inpainting masks from a file, a box, or the alpha channel.

H W pixels of the picture. Everywhere here a mask is a bool array [H,W], true (white in a file) where it is repainted.
"""

from __future__ import annotations

import re

import numpy as np
from PIL import Image

from glide.utils.errors import InputError, warn
from glide.utils.image_files import read_picture
from glide.utils.numbers import read_whole
from toolkit.pipelines.inpaint_region import Unknown

HALF = 128  # from this grey on it counts as white
CLEAR = 16  # greys this near to black or white are what a JPEG makes of them


def mask_of_file(path: str, size: tuple[int, int]) -> Unknown:
    """The mask in a file for a picture of size (W, H): white is repainted; transparent pixels are not.

    Greys are cut at one half, and a mask of another size but the same shape is scaled; both give a warning.
    InputError if the file cannot be read, or is of another shape.
    """
    return mask_of_picture(read_picture(path), path, size)


def mask_of_picture(picture: Image.Image, path: str, size: tuple[int, int]) -> Unknown:
    """The mask in a picture that was read, as `mask_of_file`; `path` is for messages."""
    if picture.mode == "RGBA":
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "black"), picture)
    grey = np.asarray(picture.convert("L"))
    if ((grey >= CLEAR) & (grey <= 255 - CLEAR)).any():
        warn(f"the mask {path} has greys: lighter than half counts as white", stacklevel=2)
    mask = grey >= HALF
    if grey.any() and not mask.any():
        raise InputError(
            f"the mask {path} is black everywhere: its values go from {grey.min()} to {grey.max()}, expected white, "
            "255, where the picture is to be repainted: multiply them"
        )
    return mask if picture.size == size else _scaled(mask, path, picture.size, size)


def _scaled(mask: Unknown, path: str, old: tuple[int, int], size: tuple[int, int]) -> Unknown:
    """Of size (W, H); the nearest pixel counts. InputError for another shape, but for a pixel of rounding."""
    (width, height), (wide, high) = size, old
    words = f"{wide}x{high} pixels for a picture of {width}x{height}"
    if abs(wide * height / width - high) > 1 and abs(high * width / height - wide) > 1:
        raise InputError(f"got the mask {path} of {words}, expected the same shape: make another one")
    warn(f"the mask {path} of {words} is scaled", stacklevel=3)
    scaled = Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST)
    return np.asarray(scaled).astype(bool)


def mask_of_box(text: str, size: tuple[int, int]) -> Unknown:
    """The mask of a box "x0,y0,x1,y1" in pixels from the top left, x1 and y1 excluded, for a size (W, H).

    InputError for what is no box, or leaves the picture.
    """
    width, height = size
    match = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
    if match is None:
        raise InputError(
            f"got the box {text!r}, expected four numbers of pixels, LEFT,TOP,RIGHT,BOTTOM: try 0,0,{width // 2},"
            f"{height // 2}"
        )
    x0, y0, x1, y1 = (read_whole(number, "the box with the pixel", 0) for number in match.groups())
    if not (x0 < x1 <= width and y0 < y1 <= height):
        raise InputError(
            f"got the box {text} in a picture of {width}x{height}, expected LEFT,TOP,RIGHT,BOTTOM with left before "
            "right, top above bottom, and all of it inside: correct it"
        )
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def mask_of_transparency(picture: Image.Image, path: str) -> Unknown:
    """The mask of transparent pixels. Partial transparency is cut at one half, with a warning.

    InputError for a picture without transparency.
    """
    if picture.mode != "RGBA":
        raise InputError(
            f"got no mask, and {path} has no transparency that could be one, expected either: give --mask or --box"
        )
    alpha = np.asarray(picture.getchannel("A"))
    if ((alpha >= CLEAR) & (alpha <= 255 - CLEAR)).any():
        warn(f"{path} is half transparent in places: what is more than half so is painted", stacklevel=2)
    return alpha < HALF
