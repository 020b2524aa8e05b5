"""CMMD: the squared MMD of CLIP embeddings with a Gaussian kernel (2401.09603, section 4).

    1000 MMD^2 of unit vectors, k(x, y) = exp(-|x - y|^2 / (2 sigma^2)), sigma = 10

It is the biased estimate, as in the paper's code, so it is above 0 and, of small sets, too large by about
1000 (1 - mean kernel) (1/N + 1/M). Only of CLIP's embeddings is it called CMMD.

Shape letters: N M pictures, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.mmd import gaussian, mmd2, mmd2_estimate

SIGMA = 10.0
SCALE = 1000.0


def unit(x: NDArray) -> NDArray[np.float64]:
    """Rows [N,F] of length 1; a row of zeros stays."""
    x = np.asarray(x, np.float64)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(x / np.where(length > 0, length, 1.0))


def cmmd(x: NDArray, y: NDArray) -> float:
    """CMMD of embeddings [N,F] and [M,F] of any length, from 0."""
    return SCALE * mmd2(unit(x), unit(y), gaussian(SIGMA), unbiased=False)


def cmmd_estimate(x: NDArray, y: NDArray, resamples: int, seed: int = 0) -> Estimate:
    """The same with its interval, both sets resampled."""
    found = mmd2_estimate(unit(x), unit(y), gaussian(SIGMA), False, resamples, seed)
    scaled = (None if end is None else SCALE * end for end in (found.low, found.high))
    return Estimate(SCALE * found.value, *scaled).within(0.0)
