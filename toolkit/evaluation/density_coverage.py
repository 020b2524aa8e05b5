"""Density and coverage (2002.09797, section 3): precision and recall that outliers of the real pictures do not fool.

Balls lie around real pictures only, each to its k-th nearest real neighbour. Density counts the balls that hold a
generated picture, and can be above 1; coverage is the share of balls that hold one at all.

    density = 1 / (k N) sum_j sum_i [y_j in ball i],   coverage = 1 / M sum_i [some y_j in ball i]

Shape letters: N generated pictures, M real ones, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.nearest_neighbors import inside, radii
from toolkit.evaluation.precision_recall import check_neighbors

Array = NDArray[np.float64]
K = 5
"""Neighbours in the paper."""


def densities_and_covered(generated: NDArray, real: NDArray, k: int = K) -> tuple[Array, Array]:
    """The density of each generated picture, [N], and 1 for each real picture that is covered, else 0, [M].

    InputError for k real pictures or fewer.
    """
    check_neighbors(real, k)
    held, covered = [], np.zeros(len(real))
    for _, hit in inside(generated, real, radii(real, k)):
        held.append(hit.sum(1) / k)
        covered = np.maximum(covered, hit.any(0))
    return np.concatenate(held), covered


def density_coverage(generated: NDArray, real: NDArray, k: int = K) -> tuple[float, float]:
    """Density, from 0, and coverage, 0 to 1."""
    held, covered = densities_and_covered(generated, real, k)
    return float(held.mean()), float(covered.mean())
