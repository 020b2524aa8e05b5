"""Crop and resize a picture of any size to a square of a given size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def square(image: Tensor, size: int, x: float = 0.5, y: float = 0.5, share: float = 1.0) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [size, size, 3], as `square_picture`."""
    picture = square_picture(Image.fromarray(image.contiguous().numpy()), size, x, y, share)
    return torch.from_numpy(np.array(picture))


def square_picture(
    picture: Image.Image, size: int, x: float = 0.5, y: float = 0.5, share: float = 1.0
) -> Image.Image:
    """A picture of size x size.

    A square is cropped, with `share` (0, 1] of the short side, at x and y of the remaining room (0 left or top, 0.5 the
    middle, 1 right or bottom). While it is at least twice the size it is halved, by averages of 2x2 pixels; then it is
    resized bicubically: as in ADM's data loader, without aliasing.
    """
    width, height = picture.size
    # Crop first: scaling a whole long strip, only to crop a square from it, could take any amount of memory.
    side = max(round(min(height, width) * share), 1)
    top, left = round((height - side) * y), round((width - side) * x)
    if (side, side) != picture.size:
        picture = picture.crop((left, top, left + side, top + side))
    if side >= 2 * size:
        halved = side >> ((side // size).bit_length() - 1)  # all halvings at once: rounded once
        picture = picture.resize((halved, halved), Image.Resampling.BOX)
    if picture.width != size:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return picture
