"""Distances between pictures in feature space, in blocks, so that memory does not grow with the product of two sets.

Shape letters: N M pictures, F features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCK = 2**22
"""Distances in a block, 32 MiB."""
ROUNDING = 1e-12
"""Rounding of a squared distance, relative to the squared lengths, within which a picture counts as on the edge of a
ball, which is part of it."""


def blocks(count: int, width: int) -> Iterator[slice]:
    """Consecutive slices of `count` rows, so many that a block of `width` columns has `BLOCK` numbers."""
    size = max(1, BLOCK // max(1, width))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


def squared_distances(x: Array, y: Array) -> Array:
    """Squared Euclidean distances [N,M] between rows of x [N,F] and of y [M,F], float64."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    found = x @ y.T
    found *= -2
    found += np.einsum("nf,nf->n", x, x)[:, None]
    found += np.einsum("mf,mf->m", y, y)[None]
    return np.maximum(found, 0.0, out=found)


def nearest(x: Array, y: Array, count: int = 1) -> tuple[Array, NDArray[np.int64]]:
    """Distances and rows of the `count` nearest pictures of y [M,F] for each of x [N,F], the nearest first: [N,count].

    The distances are exact: equal pictures are 0 apart. Of equally near ones the first comes first.
    """
    count = min(count, len(y))
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    middle = y.mean(0)
    around = y - middle
    found = np.concatenate(
        [
            np.argpartition(squared_distances(x[rows] - middle, around), count - 1, axis=1)[:, :count]
            for rows in blocks(len(x), len(y))
        ]
    )
    exact = np.stack(
        [np.linalg.norm(x - y[column], axis=1) for column in found.T], axis=1
    )  # without cancellation
    order = np.lexsort((found, exact), axis=1)
    return np.take_along_axis(exact, order, 1), np.take_along_axis(found, order, 1)


def radii(x: Array, k: int) -> Array:
    """Squared distance of each picture of x [N,F] to its k-th nearest other one, [N]."""
    x = np.asarray(x, np.float64) - np.mean(x, 0, np.float64)
    found = []
    for rows in blocks(len(x), len(x)):
        distances = squared_distances(x[rows], x)
        distances[np.arange(len(distances)), np.arange(len(x))[rows]] = np.inf  # itself
        found.append(np.partition(distances, k - 1, axis=1)[:, k - 1])
    return np.concatenate(found)


def inside(x: Array, y: Array, radius: Array) -> Iterator[tuple[slice, NDArray[np.bool_]]]:
    """Blocks of rows of x [N,F], and of which balls around y [M,F] they are inside: [n,M]. radius: squared, [M]."""
    middle = np.mean(y, 0, np.float64)
    x, y = np.asarray(x, np.float64) - middle, np.asarray(y, np.float64) - middle
    lengths = (float(np.einsum("nf,nf->n", one, one).max()) for one in (x, y))
    edge = radius + ROUNDING * sum(lengths)
    for rows in blocks(len(x), len(y)):
        yield rows, squared_distances(x[rows], y) <= edge
