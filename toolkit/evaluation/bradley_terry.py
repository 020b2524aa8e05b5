"""Bradley-Terry strengths of models from comparisons of two at a time, in Elo points.

Model i is preferred to model j with the probability 1 / (1 + exp(s_j - s_i)) (Bradley and Terry 1952, Biometrika 39).
A tie is half a win for both, as GLIDE (2112.10741) counts it. K models; the dots are any leading axes, which are fitted
at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError

Array = NDArray[np.float64]

PRIOR = 0.5
"""Wins that each model of every pair has before the first answer, which keeps a model that always wins finite. For two
models this is Jeffreys' prior of their win rate."""
ELO = 400.0 / np.log(10.0)
"""Elo points of one unit of strength: 400 points are odds of 10 to 1."""
_TOLERANCE = 1e-11  # of a step; the strengths are of the order of 1
_MOST_STEPS, _MOST_HALVINGS = 200, 60


def fit(wins: Array, prior: float = PRIOR) -> Array:
    """Strengths [..., K], of mean 0, that maximize the likelihood of the answers.

    wins: [..., K, K], times that the row's model was preferred to the column's; a tie is 0.5 in both places. prior:
    wins, above 0, that are added to every entry. Newton's method with halved steps, float64.
    """
    counted = _with_prior(wins, prior)
    strengths = np.zeros(counted.shape[:-1])
    value = _log_likelihood(counted, strengths)
    for _ in range(_MOST_STEPS):
        slope, information = _derivatives(counted, strengths)
        step = np.linalg.solve(information + 1.0 / counted.shape[-1], slope[..., None])[..., 0]
        if np.abs(step).max() < _TOLERANCE:
            return strengths
        size = np.ones(counted.shape[:-2])
        for _ in range(_MOST_HALVINGS):
            moved = strengths + size[..., None] * step
            new = _log_likelihood(counted, moved)
            worse = new < value - 1e-12 * np.abs(value)
            if not np.any(worse):
                break
            size = np.where(worse, size / 2, size)
        strengths, value = moved - moved.mean(-1, keepdims=True), new
    raise ArithmeticError(f"Newton's method did not converge in {_MOST_STEPS} steps")


def deviations(wins: Array, strengths: Array, prior: float = PRIOR) -> Array:
    """Standard deviations [..., K] of fitted strengths, by the curvature of the likelihood.

    They take every answer as independent of the others.
    """
    _, information = _derivatives(_with_prior(wins, prior), strengths)
    covariance = np.linalg.pinv(information, hermitian=True)
    return np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))


def _with_prior(wins: Array, prior: float) -> Array:
    """float64 wins with the prior's, and nothing on the diagonal."""
    counted = np.asarray(wins, np.float64)
    if counted.ndim < 2 or counted.shape[-1] != counted.shape[-2] or counted.shape[-1] < 2:
        raise InputError(
            f"got wins of shape {counted.shape}, expected [..., K, K] of at least 2 models: give such"
        )
    if not np.all(np.isfinite(counted)) or np.any(counted < 0) or prior <= 0:
        raise InputError(
            "got wins that are negative or no numbers, or no prior, expected counts from 0 and a prior above 0: "
            "correct them"
        )
    counted = counted + prior
    return counted * (1.0 - np.eye(counted.shape[-1]))


def _preferred(strengths: Array) -> Array:
    """Probabilities [..., K, K] that the row's model is preferred to the column's."""
    return 0.5 * (1.0 + np.tanh(0.5 * (strengths[..., :, None] - strengths[..., None, :])))


def _log_likelihood(counted: Array, strengths: Array) -> Array:
    """[...]"""
    difference = strengths[..., :, None] - strengths[..., None, :]
    return -(counted * np.logaddexp(0.0, -difference)).sum((-2, -1))


def _derivatives(counted: Array, strengths: Array) -> tuple[Array, Array]:
    """Slope [..., K] of the log likelihood, and its negative curvature [..., K, K]."""
    both = counted + np.swapaxes(counted, -1, -2)
    share = _preferred(strengths)
    slope = (counted - both * share).sum(-1)
    weight = both * share * np.swapaxes(share, -1, -2)
    return slope, weight.sum(-1)[..., None] * np.eye(weight.shape[-1]) - weight
