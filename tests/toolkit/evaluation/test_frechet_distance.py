"""The Fréchet distance: Gaussians whose distance is known, parts in any order, and sets smaller than their features."""

import numpy as np
import pytest
from numpy.typing import NDArray

from glide.utils.errors import InputError
from toolkit.evaluation.bootstrap import of_two_sets
from toolkit.evaluation.frechet_distance import (
    Gaussian,
    Moments,
    frechet_distance,
    frechet_estimate,
    frechet_of_features,
)


def features(count: int, width: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((count, width)) @ rng.standard_normal((width, width)) + rng.standard_normal(
        width
    )
    return mixed.astype(np.float32)


def root_by_iteration(matrix: NDArray) -> NDArray:
    """The square root of a matrix by the iteration of Denman and Beavers, which needs no eigenvalues."""
    y, z = matrix, np.eye(len(matrix))
    for _ in range(60):
        y, z = (y + np.linalg.inv(z)) / 2, (z + np.linalg.inv(y)) / 2
    return y


def plain(x: NDArray, y: NDArray) -> float:
    """Equation 6 as it stands."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    one, other = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    shift = x.mean(0) - y.mean(0)
    return shift @ shift + np.trace(one + other - 2 * root_by_iteration(one @ other))


def test_one_number_each_is_the_closed_form() -> None:
    one, other = Gaussian(np.array([1.0]), np.array([[4.0]])), Gaussian(np.array([3.0]), np.array([[9.0]]))
    assert frechet_distance(one, other) == pytest.approx((1 - 3) ** 2 + (2 - 3) ** 2, rel=1e-12)


def test_commuting_covariances_are_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((20, 20)))[0]
    a, b, shift = rng.uniform(0.1, 4, 20), rng.uniform(0.1, 4, 20), rng.standard_normal(20)
    one = Gaussian(np.zeros(20), (turn * a) @ turn.T)
    other = Gaussian(shift, (turn * b) @ turn.T)
    exact = shift @ shift + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    assert frechet_distance(one, other) == pytest.approx(exact, rel=1e-10)
    assert frechet_distance(other, one) == pytest.approx(exact, rel=1e-10)


def test_features_are_the_plain_formula() -> None:
    x, y = features(400, 24, 0), features(300, 24, 1)
    assert frechet_of_features(x, y) == pytest.approx(plain(x, y), rel=1e-6)


def test_a_set_has_no_distance_to_itself() -> None:
    x = features(100, 40, 3)
    assert frechet_of_features(x, x) == pytest.approx(0, abs=1e-6 * float(np.var(x)) * 40)
    assert frechet_of_features(x[:30], x[:30]) == pytest.approx(0, abs=1e-8 * float(np.var(x)) * 40)


def test_fewer_pictures_than_features_are_the_limit_of_the_formula() -> None:
    """By singular values of the pictures, and by eigenvalues of singular covariances."""
    x, y = features(12, 30, 4), features(15, 30, 5)
    small = frechet_of_features(x, y)
    one, other = (Moments.of([part], 30).gaussian() for part in (x, y))
    assert small == pytest.approx(frechet_distance(one, other), rel=1e-6)


def test_parts_and_order_change_nothing() -> None:
    x = features(101, 16, 6) + 1000  # a mean that cancels
    whole = Moments.of([x], 16).gaussian()
    shuffled = np.random.default_rng(0).permutation(x)
    parts = Moments.of([shuffled[:0], shuffled[:1], shuffled[1:60], shuffled[60:]], 16).gaussian()
    assert np.allclose(whole.mean, parts.mean, rtol=1e-12)
    assert np.allclose(whole.covariance, parts.covariance, rtol=1e-8, atol=1e-9)
    assert np.allclose(whole.covariance, np.cov(x.astype(np.float64), rowvar=False), rtol=1e-8, atol=1e-9)


def test_the_interval_is_around_the_distance_and_narrower_with_more_pictures() -> None:
    rng = np.random.default_rng(7)
    few, many = (
        frechet_estimate(rng.standard_normal((n, 3)), 1 + rng.standard_normal((n, 3)), 100) for n in (50, 800)
    )
    for found in (few, many):
        assert found.low is not None and found.high is not None and found.low < found.value < found.high
    assert many.low < 3 < many.high  # the distance of the distributions themselves
    assert many.high - many.low < (few.high - few.low) / 2


def test_one_picture_and_other_features_are_refused() -> None:
    with pytest.raises(InputError, match="got 1 picture for a Fréchet distance"):
        frechet_of_features(features(1, 4, 0), features(9, 4, 1))
    one, other = (Moments.of([features(9, width, 0)], width).gaussian() for width in (3, 4))
    with pytest.raises(InputError, match="3 wide and others 4 wide"):
        frechet_distance(one, other)


def test_resamples_of_small_sets_are_those_of_their_pictures() -> None:
    x, y = features(14, 30, 8).astype(np.float64), features(11, 30, 9).astype(np.float64)
    exact = of_two_sets(x, y, frechet_of_features, 20, 3)
    found = frechet_estimate(x, y, 20, 3)
    assert found.value == exact.value
    assert found.low == pytest.approx(exact.low, rel=1e-4) and found.high == pytest.approx(
        exact.high, rel=1e-4
    )
