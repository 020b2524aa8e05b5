"""Kernel distance: the unbiased squared MMD with a cubic kernel (KID: 1801.01401, section 4).

It has no bias for small sets, where the Fréchet distance is too large, and can be below 0 by chance.

Shape letters: N M pictures, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.mmd import cubic, mmd2

SUBSETS = 100
SUBSET_SIZE = 1000


def kernel_distance(x: NDArray, y: NDArray) -> float:
    """The estimate of all pictures of both sets, [N,F] and [M,F]: the mean over all subsets that there are."""
    return mmd2(x, y, cubic, unbiased=True)


def over_subsets(
    x: NDArray, y: NDArray, subsets: int = SUBSETS, size: int = SUBSET_SIZE, seed: int = 0
) -> tuple[float, float]:
    """Mean and deviation over random subsets without replacement, as papers report it.

    size: of a subset, at most that of the smaller set; a subset of the whole set has no deviation.
    """
    rng, size = np.random.default_rng(seed), min(size, len(x), len(y))
    found = [
        kernel_distance(
            x[rng.choice(len(x), size, replace=False)], y[rng.choice(len(y), size, replace=False)]
        )
        for _ in range(subsets)
    ]
    return float(np.mean(found)), float(np.std(found))
