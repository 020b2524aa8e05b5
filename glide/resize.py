"""A square picture of a given size cut from a picture of any size."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def square(image: Tensor, size: int, x: float = 0.5, y: float = 0.5, share: float = 1.0) -> Tensor:
    """uint8 [H, W, 3] -> uint8 [size, size, 3].

    A square is cut out, `share` (0, 1] of the short side long, at x and y of the room that is left (0 left or top,
    0.5 the middle, 1 right or bottom). Large ones are first halved by averaging 2x2 blocks while they stay at least
    twice the size, which loses nothing to aliasing, and the rest is bicubic: the recipe of ADM's data loader.
    """
    height, width, _ = image.shape
    # Cut first: scaling all of a long strip, only to cut a square out of it, could take any amount of memory.
    side = max(round(min(height, width) * share), 1)
    top, left = round((height - side) * y), round((width - side) * x)
    picture = Image.fromarray(image[top : top + side, left : left + side].contiguous().numpy())
    while picture.width >= 2 * size:
        half = (picture.width // 2, picture.height // 2)
        picture = picture.resize(half, Image.Resampling.BOX)
    if picture.width != size:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(picture))
