"""Fréchet distance between two sets of pictures, as Gaussians of their features (FID: 1706.08500, eq. 6).

    d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))

The trace of the root is the sum of the roots of the eigenvalues of R^T S2 R, where R R^T = S1. That product is
symmetric, so that no complex number and no unstable root of a singular matrix arises. Sets of fewer pictures than
features have singular covariances; for them it is the sum of the singular values of A B^T, where A and B are the
centred features, which is the same number without squaring any error.

Shape letters: N M pictures, F features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError
from toolkit.evaluation.bootstrap import Estimate, around, of_two_sets, picked

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Gaussian:
    """Mean [F] and covariance [F,F] of features."""

    mean: Array
    covariance: Array


@dataclass
class Moments:
    """Mean and covariance of features that come in parts, in float64 (Chan et al. 1979: parts are merged exactly)."""

    width: int
    count: int = 0
    mean: Array = field(init=False)
    scatter: Array = field(init=False)
    """Sum over pictures of (x - mean)(x - mean)^T, [F,F]."""

    def __post_init__(self) -> None:
        self.mean, self.scatter = np.zeros(self.width), np.zeros((self.width, self.width))

    def add(self, features: NDArray) -> None:
        """Features of further pictures, [N,F]."""
        part = np.asarray(features, np.float64)
        if not len(part):
            return
        mean, total = part.mean(0), self.count + len(part)
        centred, step = part - mean, mean - self.mean
        self.scatter += centred.T @ centred + np.outer(step, step) * (self.count * len(part) / total)
        self.mean = self.mean + step * (len(part) / total)
        self.count = total

    def gaussian(self) -> Gaussian:
        """With the unbiased covariance. InputError for fewer than two pictures."""
        if self.count < 2:
            raise InputError(
                f"got {self.count} picture for a Fréchet distance, expected two or more: give more pictures"
            )
        return Gaussian(self.mean, self.scatter / (self.count - 1))

    @classmethod
    def of(cls, parts: Iterable[NDArray], width: int) -> Moments:
        """Of features [N,F] in parts."""
        found = cls(width)
        for part in parts:
            found.add(part)
        return found


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Squared Fréchet distance of two Gaussians, from 0. InputError for Gaussians of different widths."""
    if len(one.mean) != len(other.mean):
        raise InputError(
            f"got features {len(one.mean)} wide and others {len(other.mean)} wide, expected those of one network: "
            "measure both sets alike"
        )
    root = _factor(one.covariance)
    product = root.T @ other.covariance @ root
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0.0)).sum()
    return _joined(one.mean, other.mean, np.trace(one.covariance), np.trace(other.covariance), cross)


def _factor(covariance: Array) -> Array:
    """R with R R^T the covariance: Cholesky's, or by eigenvalues where it is singular."""
    try:
        return np.asarray(np.linalg.cholesky(covariance), np.float64)
    except np.linalg.LinAlgError:
        values, vectors = np.linalg.eigh(covariance)
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)), np.float64)


def frechet_of_features(x: NDArray, y: NDArray) -> float:
    """Squared Fréchet distance of features [N,F] and [M,F]; InputError for fewer than two of either."""
    if max(len(x), len(y)) > x.shape[1] or min(len(x), len(y)) < 2:
        one, other = (Moments.of([part], part.shape[1]).gaussian() for part in (x, y))
        return frechet_distance(one, other)
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    a, b = x - x.mean(0), y - y.mean(0)
    n, m = len(x) - 1, len(y) - 1
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum() / np.sqrt(n * m)
    return _joined(x.mean(0), y.mean(0), (a**2).sum() / n, (b**2).sum() / m, cross)


def frechet_estimate(x: NDArray, y: NDArray, resamples: int, seed: int = 0) -> Estimate:
    """The same with its interval, both sets resampled."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if max(len(x), len(y)) > x.shape[1] or min(len(x), len(y)) < 2:
        return of_two_sets(x, y, frechet_of_features, resamples, seed).within(0.0)
    return around(frechet_of_features(x, y), _small_resamples(x, y, resamples, seed)).within(0.0)


def _small_resamples(x: Array, y: Array, resamples: int, seed: int) -> Array:
    """Distances [B] of resamples of sets of fewer pictures than features, by products that are computed once.

    The singular values come of the eigenvalues of M M^T, half as exact and many times as fast.
    """
    products, squares = x @ y.T, [(one**2).sum(1) for one in (x, y)]
    n, m, found = len(x) - 1, len(y) - 1, []
    pairs = zip(picked(len(x), resamples, seed), picked(len(y), resamples, seed + 1), strict=True)
    for rows, others in pairs:
        means = x[rows].mean(0), y[others].mean(0)
        traces = [
            squares[i][chosen].sum() - len(chosen) * (means[i] ** 2).sum()
            for i, chosen in enumerate((rows, others))
        ]
        cross = products[np.ix_(rows, others)]
        cross = cross - cross.mean(0)
        cross -= cross.mean(1)[:, None]
        small = cross @ cross.T if n <= m else cross.T @ cross
        total = np.sqrt(np.maximum(np.linalg.eigvalsh(small), 0.0)).sum() / np.sqrt(n * m)
        found.append(_joined(means[0], means[1], traces[0] / n, traces[1] / m, total))
    return np.array(found)


def _joined(mean: Array, other: Array, trace: float, other_trace: float, cross: float) -> float:
    return max(0.0, float(((mean - other) ** 2).sum() + trace + other_trace - 2 * cross))
