"""Improved precision and recall (1904.06991, eq. 1 and 2), and the realism of single pictures (eq. 3).

Around each picture of a set lies a ball that reaches to its k-th nearest neighbour in that set; all balls together are
the set's manifold. Precision is the share of generated pictures on the manifold of the real ones, recall the share of
real pictures on that of the generated ones.

Shape letters: N generated pictures, M real ones, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError
from toolkit.evaluation.nearest_neighbors import blocks, inside, radii, squared_distances

Array = NDArray[np.float64]
K = 3
"""Neighbours in the paper."""
MOST = 1e6
"""Realism of a copy, whose distance is 0."""


def on_manifold(x: NDArray, of: NDArray, k: int = K) -> Array:
    """1 for each picture of x [N,F] that lies on the manifold of `of` [M,F], else 0: [N].

    InputError for a set of k pictures or fewer.
    """
    check_neighbors(of, k)
    found = [hit.any(1) for _, hit in inside(x, of, radii(of, k))]
    return np.concatenate(found).astype(np.float64)


def precision_recall(generated: NDArray, real: NDArray, k: int = K) -> tuple[float, float]:
    """Precision and recall, 0 to 1."""
    return float(on_manifold(generated, real, k).mean()), float(on_manifold(real, generated, k).mean())


def realism(generated: NDArray, real: NDArray, k: int = K) -> Array:
    """The realism of each generated picture, [N]: 1 or more on the manifold, up to `MOST`; 0 far from it.

    As in the paper, the larger half of the balls is left out: those around outliers would hold almost anything.
    """
    check_neighbors(real, k)
    squared = radii(real, k)
    small = squared <= np.median(squared)
    kept, radius = np.asarray(real, np.float64)[small], squared[small]
    middle = kept.mean(0)
    kept, x = kept - middle, np.asarray(generated, np.float64) - middle
    found = []
    for rows in blocks(len(x), len(kept)):
        distance = squared_distances(x[rows], kept)
        ratio = radius / np.maximum(np.maximum(distance, radius / MOST**2), np.finfo(np.float64).tiny)
        found.append(np.sqrt(ratio.max(1)))
    return np.concatenate(found)


def check_neighbors(x: NDArray, k: int) -> None:
    """InputError for a set with too few pictures for k neighbours."""
    if len(x) <= k:
        raise InputError(
            f"got a set of {len(x)} pictures for {k} nearest neighbours, expected {k + 1} or more: give more pictures"
        )
