"""Maximum mean discrepancy between two sets of features (Gretton et al. 2012, eq. 3 and 5), in blocks, in float64.

    MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)

The unbiased estimate leaves out the pairs of a picture with itself; the biased one takes all. Resamples are weights on
the pictures, so that the kernel of a pair is computed once for all of them.

Shape letters: N M pictures, F features, B resamples.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import Estimate, around, counts
from toolkit.evaluation.nearest_neighbors import blocks, squared_distances

Array = NDArray[np.float64]
Kernel = Callable[[Array, Array], Array]
"""[N,F], [M,F] -> [N,M]."""


def cubic(x: Array, y: Array) -> Array:
    """(x . y / F + 1)^3, the kernel of KID (1801.01401, section 4)."""
    found: Array = (x @ y.T / x.shape[1] + 1) ** 3
    return found


def gaussian(sigma: float) -> Kernel:
    """exp(-|x - y|^2 / (2 sigma^2))."""
    return lambda x, y: np.exp(squared_distances(x, y) / (-2 * sigma**2))


def mmd2(x: NDArray, y: NDArray, kernel: Kernel, unbiased: bool) -> float:
    """The squared discrepancy of features [N,F] and [M,F]; the unbiased estimate can be below 0."""
    return float(_weighted(x, y, kernel, unbiased, np.ones((1, len(x))), np.ones((1, len(y))))[0])


def mmd2_estimate(
    x: NDArray, y: NDArray, kernel: Kernel, unbiased: bool, resamples: int, seed: int = 0
) -> Estimate:
    """The same with its interval, both sets resampled."""
    weights = [
        np.concatenate([np.ones((1, len(one))), counts(len(one), resamples, seed + i)])
        for i, one in enumerate((x, y))
    ]
    found = _weighted(x, y, kernel, unbiased, *weights)
    return around(float(found[0]), found[1:])


def _weighted(x: NDArray, y: NDArray, kernel: Kernel, unbiased: bool, wx: Array, wy: Array) -> Array:
    """The squared discrepancy [B] with weights [B,N] and [B,M] on the pictures."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    within = sum(_within(one, kernel, unbiased, weights) for one, weights in ((x, wx), (y, wy)))
    across = _sums(x, y, kernel, wx, wy) / (wx.sum(1) * wy.sum(1))
    return np.asarray(within - 2 * across)


def _within(x: Array, kernel: Kernel, unbiased: bool, weights: Array) -> Array:
    """Mean kernel within a set, [B]."""
    total, own = np.zeros(len(weights)), np.empty(len(x))
    for rows in blocks(len(x), len(x)):
        found = kernel(x[rows], x)
        total += ((weights[:, rows] @ found) * weights).sum(1)
        own[rows] = found[np.arange(len(found)), np.arange(rows.start, rows.stop)]
    pairs = weights.sum(1) ** 2
    if unbiased:
        pairs = pairs - (weights**2).sum(1)
        lone = pairs <= 0  # one picture alone, over and over: no pair of two
        return np.where(lone, np.nan, total - weights**2 @ own) / np.where(lone, 1.0, pairs)
    return total / pairs


def _sums(x: Array, y: Array, kernel: Kernel, wx: Array, wy: Array) -> Array:
    """Sum over all pairs of their weights and kernel, [B]."""
    total = np.zeros(len(wx))
    for rows in blocks(len(x), len(y)):
        total += ((wx[:, rows] @ kernel(x[rows], y)) * wy).sum(1)
    return total
