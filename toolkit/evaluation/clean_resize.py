"""Resize pictures as clean-fid defines it (2104.11222): by Pillow's bicubic filter, with antialiasing, on float planes.

Most libraries' resizing takes too few pixels into account when it makes a picture smaller, or rounds to bytes in
between; a distance then measures the resizing.

Shape letters: H W pixels, S side of the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

VERSION = 1
"""Part of the key of cached features: a change here makes new ones."""


def clean_resize(pixels: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """uint8 [H,W,3] -> float32 [3,S,S], from 0 to 255 and not rounded. Another aspect is squeezed, nothing is cut."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), np.float32)
    if planes.shape[1:] == (size, size):  # which the filter leaves as it is
        return planes
    resized = [
        np.asarray(Image.fromarray(plane).resize((size, size), Image.Resampling.BICUBIC)) for plane in planes
    ]
    return np.stack(resized).clip(0, 255)  # bicubic goes beyond the range at edges
