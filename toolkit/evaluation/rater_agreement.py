"""Krippendorff's alpha: the agreement of any number of raters beyond chance.

Klaus Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011), for nominal values. Unlike Cohen's and Fleiss'
kappa it takes answers that are missing. 1 is perfect agreement, 0 that of chance. R raters, U units, C values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MISSING = -1


def coincidences(ratings: NDArray[np.int64], values: int) -> NDArray[np.float64]:
    """Coincidence matrix [U, C, C] of each unit: its pairs of ratings, each divided by one less than its raters.

    ratings: [R, U], from 0 to `values` - 1, or MISSING. Units with less than two ratings count nothing.
    """
    counts = np.stack([(ratings == value).sum(0) for value in range(values)], axis=-1).astype(np.float64)
    raters = counts.sum(-1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(values)
    usable = raters > 1
    return np.where(usable[:, None, None], pairs / np.maximum(raters - 1, 1)[:, None, None], 0.0)


def alpha(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Krippendorff's alpha [...] of coincidence matrices [..., C, C], summed over units.

    nan where it is undefined: no unit with two ratings, or all ratings alike.
    """
    totals = matrix.sum(-1)
    n = totals.sum(-1)
    observed = n - np.trace(matrix, axis1=-2, axis2=-1)
    expected = n**2 - (totals**2).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1.0 - (n - 1) * observed / expected, np.nan)


def percent_agreement(matrix: NDArray[np.float64]) -> float:
    """Share of the pairs of ratings that are alike; nan without any. matrix: [C, C], summed over units."""
    n = float(matrix.sum())
    return float(np.trace(matrix)) / n if n else float("nan")
