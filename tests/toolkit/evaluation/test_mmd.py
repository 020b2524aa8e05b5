"""Kernel distance and CMMD: loops over all pairs, known Gaussians, and weights as resamples."""

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.evaluation import nearest_neighbors
from toolkit.evaluation.bootstrap import counts, picked
from toolkit.evaluation.cmmd import cmmd, cmmd_estimate
from toolkit.evaluation.kernel_distance import kernel_distance, over_subsets
from toolkit.evaluation.mmd import _weighted, cubic, gaussian, mmd2, mmd2_estimate


def features(count: int, width: int, seed: int, shift: float = 0.0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, width)) + shift


def pairs(x: NDArray, y: NDArray, kernel: object, unbiased: bool) -> float:
    """The definition, one pair at a time."""

    def mean(a: NDArray, b: NDArray, skip: bool) -> float:
        found = [
            kernel(p, q)  # type: ignore[operator]
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (skip and i == j)
        ]
        return sum(found) / len(found)

    return mean(x, x, unbiased) + mean(y, y, unbiased) - 2 * mean(x, y, False)


def test_the_kernel_distance_is_its_definition() -> None:
    x, y = features(23, 7, 0), features(17, 7, 1, 0.3)
    exact = pairs(x, y, lambda p, q: (p @ q / 7 + 1) ** 3, True)
    assert kernel_distance(x, y) == pytest.approx(exact, rel=1e-9)
    assert kernel_distance(x[::-1], np.roll(y, 5, 0)) == pytest.approx(exact, rel=1e-9)


def test_cmmd_is_its_definition() -> None:
    x, y = features(20, 9, 2), features(31, 9, 3, 0.5)
    unit = [one / np.linalg.norm(one, axis=1, keepdims=True) for one in (x, y)]
    exact = 1000 * pairs(*unit, lambda p, q: np.exp(-((p - q) ** 2).sum() / 200), False)
    assert cmmd(x, y) == pytest.approx(exact, rel=1e-6)
    assert cmmd(3 * x, y / 7) == pytest.approx(exact, rel=1e-6)
    assert cmmd(x, x) == pytest.approx(0, abs=1e-9)


def test_gaussians_have_the_closed_form() -> None:
    """Two unit normal distributions of one number, 2 apart: E k is a normal integral."""
    x, y = features(4000, 1, 4), features(4000, 1, 5, 2.0)
    exact = 2 * (1 - np.exp(-(2**2) / 2 / 3)) / np.sqrt(3)  # sigma 1: variance 1 + 1 + 1
    found = mmd2_estimate(x, y, gaussian(1.0), True, 50)
    assert found.value == pytest.approx(exact, rel=0.05)
    assert found.low is not None and found.high is not None and found.low < exact < found.high


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = features(40, 5, 6), features(33, 5, 7)
    whole = mmd2(x, y, cubic, True)
    monkeypatch.setattr(nearest_neighbors, "BLOCK", 70)  # two rows
    assert mmd2(x, y, cubic, True) == pytest.approx(whole, rel=1e-10)


@pytest.mark.parametrize("unbiased", [True, False])
def test_weights_are_resamples(unbiased: bool) -> None:
    """A weight is a repeated picture; pairs of it with itself do not count as two pictures."""
    x, y = features(12, 4, 8), features(10, 4, 9)
    (rows,), (others,) = picked(12, 1, 3), picked(10, 1, 4)
    found = _weighted(x, y, cubic, unbiased, counts(12, 1, 3), counts(10, 1, 4))[0]

    def mean(a: NDArray, chosen: NDArray) -> float:
        kept = [
            cubic(a[i : i + 1], a[j : j + 1])[0, 0]
            for i in chosen
            for j in chosen
            if not (unbiased and i == j)
        ]
        return float(np.mean(kept))

    exact = mean(x, rows) + mean(y, others) - 2 * cubic(x[rows], y[others]).mean()
    assert found == pytest.approx(exact, rel=1e-9)


def test_subsets_are_seeded_and_agree_with_all_pictures() -> None:
    x, y = features(300, 6, 10), features(300, 6, 11, 0.5)
    mean, deviation = over_subsets(x, y, 60, 100)
    assert (mean, deviation) == over_subsets(x, y, 60, 100) != over_subsets(x, y, 60, 100, seed=1)
    assert abs(mean - kernel_distance(x, y)) < 4 * deviation / np.sqrt(60)
    assert over_subsets(x, y, 3, 1000)[1] == pytest.approx(0, abs=1e-12)


def test_no_bias_for_equal_distributions() -> None:
    found = [kernel_distance(features(20, 4, 2 * s), features(20, 4, 2 * s + 1)) for s in range(300)]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(300)
    assert cmmd_estimate(features(20, 4, 0), features(20, 4, 1), 20).value > 0


def test_very_few_pictures_still_have_an_interval() -> None:
    """Some of their resamples are one picture alone, of which there is no pair."""
    found = mmd2_estimate(features(3, 4, 0), features(3, 4, 1), cubic, True, 200)
    assert found.low is not None and found.high is not None and found.low < found.value < found.high
