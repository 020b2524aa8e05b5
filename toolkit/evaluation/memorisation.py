"""Memorisation: are generated pictures nearer to training pictures than new pictures of the same kind are?

The distance of a picture is that to its nearest training picture, in feature space. Held-out pictures, which were not
trained on, say how near a new picture is: a generated one counts as near where fewer than 5% of the held-out ones are
as near. Of new pictures 5% are; a model that copies has more. Beside it stands the probability that a generated picture
is nearer than a held-out one, 0.5 for new pictures (the test of 2004.05675, section 3, over the whole space).

Where none are held out, because there are few, the training pictures stand in for them, each compared with the others.

Shape letters: N generated pictures, M training pictures, H held-out ones, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import RESAMPLES, Estimate, around, picked, share_of
from toolkit.evaluation.nearest_neighbors import nearest, radii

Array = NDArray[np.float64]
EXPECTED = 0.05
"""Share of new pictures that count as near."""
FEWEST = 20
"""Held-out pictures below which 5% of them is less than one."""


@dataclass(frozen=True)
class Memorisation:
    """The result. distances, rows: of each generated picture's nearest training pictures, [N,k], the nearest first."""

    near: Estimate
    """Share of generated pictures nearer to a training picture than 95% of the held-out ones are."""
    nearer: Estimate
    """Probability that a generated picture is nearer to a training picture than a held-out one is."""
    limit: float
    """The distance below which a picture counts as near."""
    distances: Array
    rows: NDArray[np.int64]
    held_out_distances: Array
    """[H]."""

    @property
    def found(self) -> bool:
        """True where the whole interval is above the share of new pictures."""
        return self.near.low is not None and self.near.low > EXPECTED


def memorisation(
    generated: NDArray,
    training: NDArray,
    held_out: NDArray | None,
    neighbors: int = 1,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Memorisation:
    """Compare generated pictures [N,F] with held-out ones [H,F] by their distance to the training pictures [M,F].

    held_out: None for the training pictures themselves, each without itself.
    """
    distances, rows = nearest(generated, training, neighbors)
    new = np.sqrt(radii(training, 1)) if held_out is None else nearest(held_out, training)[0][:, 0]
    own = distances[:, 0]
    _, first, counted = np.unique(generated, axis=0, return_index=True, return_counts=True)
    kept, times = own[first], counted.astype(np.float64)  # a repeated picture is one draw
    pairs = list(zip(picked(len(kept), resamples, seed), picked(len(new), resamples, seed + 1), strict=True))
    shares = np.array([_near(kept[some], times[some], new[others]) for some, others in pairs])
    nearer = np.array([_nearer(kept[some], times[some], new[others]) for some, others in pairs])
    share = _near(kept, times, new)
    near = around(share, shares)
    if share in (0.0, 1.0):  # which no resample changes
        near = share_of(round(share * len(kept)), len(kept))
    nearer_than_new = around(_nearer(kept, times, new), nearer).within(0.0, 1.0)
    return Memorisation(near.within(0.0, 1.0), nearer_than_new, _limit(new), distances, rows, new)


def _limit(new: Array) -> float:
    """The distance that a share EXPECTED of new pictures falls below."""
    return float(np.quantile(new, EXPECTED))


def _near(own: Array, times: Array, new: Array) -> float:
    """Share of generated pictures below the limit. own, times: distance and number of each different picture."""
    return float(times[own < _limit(new)].sum() / times.sum())


def _nearer(own: Array, times: Array, new: Array) -> float:
    """P(own < new) + P(own = new) / 2, the statistic of Mann and Whitney over all pairs."""
    order = np.argsort(own)
    below = np.concatenate([[0.0], np.cumsum(times[order])])
    found = below[np.searchsorted(own[order], new, "left")] + below[np.searchsorted(own[order], new, "right")]
    return float(found.mean() / (2 * times.sum()))
