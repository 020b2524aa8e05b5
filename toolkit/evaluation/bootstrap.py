"""Intervals of measured figures, by resampling the pictures (Efron 1979).

A resample repeats pictures, which moves most distances between sets upwards; the interval is therefore that of the
resamples around their own mean, put around the figure itself. A share of 0 or 1 does not change in any resample, so
shares get Wilson's interval (1927).

Shape letters: N pictures, B resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 200
LEVEL = 0.95
"""Probability with which an interval holds the true figure."""
Z = 1.959963984540054
"""Quantile of the normal distribution at (1 + LEVEL) / 2."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval; without one where it is not known."""

    value: float
    low: float | None = None
    high: float | None = None

    def within(self, least: float, most: float = math.inf) -> Estimate:
        """The same with its interval cut to what the figure can be."""
        if self.low is None or self.high is None:
            return self
        return Estimate(self.value, max(least, self.low), min(most, self.high))

    def __str__(self) -> str:
        if self.low is None or self.high is None:
            return f"{self.value:.4g}"
        return f"{self.value:.4g} ({self.low:.4g} to {self.high:.4g})"


def picked(count: int, resamples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """The pictures [N] of each resample, drawn with replacement. Resample b depends on (seed, b, count) alone."""
    for number in range(resamples):
        yield np.random.default_rng((seed, number, count)).integers(0, count, count)


def counts(count: int, resamples: int, seed: int) -> Array:
    """Number of times that each picture is in each resample of `picked`, [B,N]."""
    return np.stack(
        [np.bincount(rows, minlength=count).astype(np.float64) for rows in picked(count, resamples, seed)]
    )


def around(value: float, replicates: Array) -> Estimate:
    """The figure with the interval of its resamples [B], moved so that their mean is the figure."""
    replicates = replicates[np.isfinite(replicates)]  # of very few pictures, some resamples have no figure
    if not np.isfinite(value) or len(replicates) < 2:
        return Estimate(value)
    low, high = np.quantile(replicates, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)) - replicates.mean()
    return Estimate(value, value + float(low), value + float(high))


def mean_of(values: Array, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """The mean of one value for each picture, [N], with its interval. Of values that are 0 or 1, as `share_of`."""
    values = np.asarray(values, np.float64)
    if np.isin(values, (0.0, 1.0)).all():
        return share_of(int(values.sum()), len(values))
    return around(float(values.mean()), counts(len(values), resamples, seed) @ values / len(values))


def share_of(found: int, count: int) -> Estimate:
    """A share of `count` pictures with Wilson's interval (1927)."""
    share, spread = found / count, Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = math.sqrt(share * (1 - share) * spread + spread**2 / 4) / (1 + spread)
    return Estimate(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def line_of(figures: Mapping[str, Estimate], real: Mapping[str, Estimate] | None = None) -> dict[str, float]:
    """Figures as numbers by name for a line of a log: "recall", "recall_low", "recall_high".

    real: of real pictures, for "recall_real". Numbers that are not finite are left out.
    """
    found: dict[str, float | None] = {}
    for name, one in figures.items():
        found |= {name: one.value, f"{name}_low": one.low, f"{name}_high": one.high}
        if real is not None and name in real:
            found[f"{name}_real"] = real[name].value
    return {name: float(value) for name, value in found.items() if value is not None and math.isfinite(value)}


def of_two_sets(
    x: Array, y: Array, figure: Callable[[Array, Array], float], resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """A figure of two sets, [N,...] and [M,...], with its interval: both sets are resampled."""
    pairs = zip(picked(len(x), resamples, seed), picked(len(y), resamples, seed + 1), strict=True)
    return around(figure(x, y), np.array([figure(x[rows], y[others]) for rows, others in pairs]))
