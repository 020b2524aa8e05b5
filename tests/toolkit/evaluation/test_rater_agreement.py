"""Krippendorff's alpha: the published example, a second implementation, its limits."""

from itertools import permutations

import numpy as np
import pytest

from toolkit.evaluation.rater_agreement import MISSING, alpha, coincidences, percent_agreement

EXAMPLE = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff 2011, section C: four observers, twelve units, five values, missing data; alpha is 0.743."""


def read(text: str) -> np.ndarray:
    return np.array(
        [[MISSING if one == "." else int(one) - 1 for one in row.split()] for row in text.split("\n") if row]
    )


def plainly(ratings: np.ndarray) -> float:
    """1 - observed / expected disagreement, pair by pair of ratings."""
    units = [[v for v in column if v != MISSING] for column in ratings.T]
    units = [unit for unit in units if len(unit) > 1]
    values = [v for unit in units for v in unit]
    observed = sum(sum(a != b for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units) / len(
        values
    )
    expected = sum(a != b for a, b in permutations(values, 2)) / (len(values) * (len(values) - 1))
    return 1 - observed / expected


def test_the_published_example() -> None:
    ratings = read(EXAMPLE)
    assert float(alpha(coincidences(ratings, 5).sum(0))) == pytest.approx(0.743, abs=5e-4)


@pytest.mark.parametrize("seed", range(4))
def test_as_by_its_definition(seed: int) -> None:
    ratings = np.random.default_rng(seed).integers(MISSING, 3, (4, 25))
    assert float(alpha(coincidences(ratings, 3).sum(0))) == pytest.approx(plainly(ratings), rel=1e-12)


def test_perfect_agreement_is_1_and_chance_0() -> None:
    rng = np.random.default_rng(0)
    one = rng.integers(0, 3, 3000)
    assert float(alpha(coincidences(np.stack([one, one, one]), 3).sum(0))) == pytest.approx(1)
    assert abs(float(alpha(coincidences(rng.integers(0, 3, (3, 3000)), 3).sum(0)))) < 0.05


def test_it_is_undefined_for_one_rater_and_for_one_value() -> None:
    assert np.isnan(alpha(coincidences(np.array([[0, 1, 2]]), 3).sum(0)))
    assert np.isnan(alpha(coincidences(np.zeros((3, 4), np.int64), 3).sum(0)))


def test_the_share_of_pairs_that_are_alike() -> None:
    matrix = coincidences(np.array([[0, 1, 2, 0], [0, 1, 1, MISSING]]), 3).sum(0)
    assert percent_agreement(matrix) == pytest.approx(2 / 3)
    assert np.isnan(percent_agreement(np.zeros((3, 3))))
