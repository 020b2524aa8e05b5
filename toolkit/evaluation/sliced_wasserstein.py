"""Sliced Wasserstein distance (Bonneel et al. 2015): the mean over directions of the distance of the projections.

    SW^2 = E_theta W_2^2(theta . x, theta . y)

In one dimension W_2 is the distance of the quantile functions, which sorting gives exactly. Nothing is assumed of the
distributions, and no covariance is estimated, so it is steady for sets of tens to a few thousand pictures.

Shape letters: N M pictures, F features, L directions, Q quantiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import Estimate, of_two_sets

Array = NDArray[np.float64]
DIRECTIONS = 512
MOST = 2000
"""Pictures of a set up to which this distance is reported beside the others."""


def directions(width: int, count: int = DIRECTIONS, seed: int = 0) -> Array:
    """Random unit vectors [L,F], the same for a seed."""
    drawn = np.random.default_rng(seed).standard_normal((count, width))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True))


def sliced_wasserstein(x: NDArray, y: NDArray, count: int = DIRECTIONS, seed: int = 0) -> float:
    """The distance SW of features [N,F] and [M,F], in their own unit."""
    along = directions(x.shape[1], count, seed)
    return _projected(np.asarray(x, np.float64) @ along.T, np.asarray(y, np.float64) @ along.T)


def sliced_wasserstein_estimate(
    x: NDArray, y: NDArray, resamples: int, seed: int = 0, count: int = DIRECTIONS
) -> Estimate:
    """The same with its interval, both sets resampled and the directions kept."""
    along = directions(x.shape[1], count, seed)
    projected = [np.asarray(one, np.float64) @ along.T for one in (x, y)]
    return of_two_sets(projected[0], projected[1], _projected, resamples, seed).within(0.0)


def _projected(x: Array, y: Array) -> float:
    """The distance of projections [N,L] and [M,L]."""
    x, y = np.sort(x, axis=0), np.sort(y, axis=0)
    if len(x) != len(y):
        steps = np.unique(np.concatenate([np.arange(n + 1) / n for n in (len(x), len(y))]))  # [Q+1]
        middle, weights = (steps[1:] + steps[:-1]) / 2, np.diff(steps)
        x, y = (part[(middle * len(part)).astype(np.int64)] for part in (x, y))
    else:
        weights = np.full(len(x), 1 / len(x))
    return float(np.sqrt((weights @ (x - y) ** 2).mean()))
