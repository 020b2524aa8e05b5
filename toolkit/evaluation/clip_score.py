"""CLIP score: how well pictures fit their captions (2104.08718, eq. 1, with the factor 100 of later papers).

    100 max(cos(picture, caption), 0)

Shape letters: N pictures, E embedding width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.cmmd import unit

SCALE = 100.0


def clip_scores(images: NDArray, captions: NDArray) -> NDArray[np.float64]:
    """The score of each picture, [N], 0 to 100, by its embedding and that of its caption, [N,E] of any length."""
    cosine = (unit(images) * unit(captions)).sum(1)
    return SCALE * np.maximum(cosine, 0.0)
