"""Crop and resize a picture of any size to a given size, for example to a square."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.utils.picture_size import Size

Box = tuple[int, int, int, int]
"""left, top, right, bottom in pixels."""


def square(image: Tensor, size: int, x: float = 0.5, y: float = 0.5, share: float = 1.0) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [size, size, 3], as `square_picture`."""
    picture = square_picture(Image.fromarray(image.contiguous().numpy()), size, x, y, share)
    return torch.from_numpy(np.array(picture))


def square_picture(
    picture: Image.Image, size: int, x: float = 0.5, y: float = 0.5, share: float = 1.0
) -> Image.Image:
    """A picture of size x size, as `cropped_picture`."""
    return cropped_picture(picture, (size, size), x, y, share)


def crop_box(picture: Size, size: Size, x: float = 0.5, y: float = 0.5, share: float = 1.0) -> Box:
    """The part of a picture (H, W) that is scaled to `size` (h, w): the largest of that shape, or `share` of its sides.

    x, y: its place in the remaining room, as of `cropped_picture`.
    """
    height, width = picture
    most = min(
        height * size[1], width * size[0]
    )  # the sides of the largest part, times the other side of `size`
    down, across = max(round(most / size[1] * share), 1), max(round(most / size[0] * share), 1)
    top, left = round((height - down) * y), round((width - across) * x)
    return left, top, left + across, top + down


def cropped_picture(
    picture: Image.Image, size: Size, x: float = 0.5, y: float = 0.5, share: float = 1.0
) -> Image.Image:
    """A picture of `size` (H, W).

    A part of that shape is cropped, with `share` (0, 1] of the largest one's sides, at x and y of the remaining room (0
    left or top, 0.5 the middle, 1 right or bottom). While it is at least twice the size it is halved, by averages of
    2x2 pixels; then it is resized bicubically: as in ADM's data loader, without aliasing.
    """
    height, width = size
    # Crop first: scaling a whole long strip, only to crop a part from it, could take any amount of memory.
    left, top, right, bottom = crop_box((picture.height, picture.width), size, x, y, share)
    if (right - left, bottom - top) != picture.size:
        picture = picture.crop((left, top, right, bottom))
    times = min(picture.height // height, picture.width // width)
    if times >= 2:
        halvings = times.bit_length() - 1  # all halvings at once: rounded once
        halved = (picture.width >> halvings, picture.height >> halvings)
        picture = picture.resize(halved, Image.Resampling.BOX)
    if picture.size != (width, height):
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
    return picture
