"""Inception score: are the classes of single pictures clear, and those of all pictures many? (1606.03498, section 4)

    exp E_x KL(p(y|x) || p(y))

Only Inception's own classes give the published numbers; of another classifier the score bears that one's name.

Shape letters: N pictures, K classes, B resamples.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import Estimate, around, counts

Array = NDArray[np.float64]


def inception_score(probabilities: NDArray) -> float:
    """The score of class probabilities [N,K], from 1 to K."""
    return float(_weighted(np.asarray(probabilities, np.float64), np.ones((1, len(probabilities))))[0])


def inception_score_estimate(probabilities: NDArray, resamples: int, seed: int = 0) -> Estimate:
    """The same with its interval."""
    p = np.asarray(probabilities, np.float64)
    return around(inception_score(p), _weighted(p, counts(len(p), resamples, seed)))


def _weighted(p: Array, weights: Array) -> Array:
    """Scores [B] with weights [B,N] on the pictures."""
    weights = weights / weights.sum(1, keepdims=True)
    found: Array = np.exp(weights @ _negative_entropy(p) - _negative_entropy(weights @ p))
    return found


def _negative_entropy(p: Array) -> Array:
    """Sum of p log p over the last axis; 0 log 0 is 0."""
    found: Array = (p * np.log(np.where(p > 0, p, 1.0))).sum(-1)
    return found
