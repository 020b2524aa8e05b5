"""The glyph that a picture is nearest to.

Pictures are compared by their colours' averages over a grid of 16x16 cells, by the squared difference. Averages keep
what tells glyphs apart (where which colour is: skins, flags, hearts) and forgive what a model may do to a right one:
edges a pixel off, a little noise, a little blur. Pixel by pixel an edge that is one pixel off would count for more than
a wrong colour of skin. No trained network is needed, so nothing but the pictures decides. `own_error` says how
often the measure itself mistakes a true glyph that was moved and noised.

N glyphs, M pictures, H W pixels, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELLS = 16
SIZE = 64  # at which pictures are compared, whatever their own

Pixels = NDArray[np.uint8]
Features = NDArray[np.float64]


def features(pictures: Sequence[Pixels]) -> Features:
    """M pictures, uint8 [H,W,3] -> [M,F]: average colours of the cells, whole numbers from 0 to 255.

    In float64, in which sums of their products are exact: distances are the same on every processor.
    """
    cells = [
        Image.fromarray(np.ascontiguousarray(picture))
        .resize((SIZE, SIZE), Image.Resampling.BOX)
        .resize((CELLS, CELLS), Image.Resampling.BOX)
        for picture in pictures
    ]
    return np.stack([np.asarray(cell, np.float64).reshape(-1) for cell in cells])


class Glyphs:
    """The glyphs that a picture may be nearest to."""

    def __init__(self, pictures: Sequence[Pixels]) -> None:
        self.pictures = pictures
        self.features = features(pictures)
        # of glyphs that look the same (some flags) each is right for all
        first: dict[bytes, int] = {}
        self.looks = [first.setdefault(picture.tobytes(), i) for i, picture in enumerate(pictures)]

    def nearest(self, found: Features) -> NDArray[np.int64]:
        """[M,F] -> for each the glyph at the smallest distance, [M]; of several the first."""
        # |a-b|^2 = |a|^2 - 2ab + |b|^2, of which |a|^2 is the same for all glyphs
        return ((self.features**2).sum(1) - 2 * found @ self.features.T).argmin(1)

    def right(self, found: int, wanted: int) -> bool:
        """True if two glyphs look the same."""
        return self.looks[found] == self.looks[wanted]

    def own_error(self, shift: int = 2, noise: float = 0.05, seed: int = 0) -> float:
        """The share of true glyphs that are taken for others once moved by `shift` of 64 pixels and noised."""
        rng = np.random.default_rng(seed)
        worse = []
        for picture in self.pictures:
            small = np.asarray(
                Image.fromarray(picture).resize((SIZE, SIZE), Image.Resampling.BOX), np.float32
            )
            down, across = rng.integers(-shift, shift + 1, 2).tolist()
            padded = np.pad(small, ((shift, shift), (shift, shift), (0, 0)), mode="edge")
            moved = padded[shift + down :, shift + across :][:SIZE, :SIZE]
            noised = moved + 255 * noise * rng.standard_normal(moved.shape)
            worse.append(noised.round().clip(0, 255).astype(np.uint8))
        nearest = self.nearest(features(worse)).tolist()
        return 1 - sum(self.right(found, i) for i, found in enumerate(nearest)) / len(nearest)
