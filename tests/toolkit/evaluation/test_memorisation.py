"""Memorisation: found where pictures are copies, not claimed for new ones; and the intervals of figures."""

import numpy as np
import pytest
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import around, counts, mean_of, of_two_sets, picked, share_of
from toolkit.evaluation.memorisation import memorisation


def features(count: int, seed: int) -> NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal((count, 5))


def test_copies_are_found() -> None:
    training, held_out = features(100, 0), features(100, 1)
    copies = training[:40] + 1e-3 * features(40, 2)
    found = memorisation(copies, training, held_out, 3)
    assert found.found and found.near.value == 1.0 and found.near.low > 0.9
    assert found.nearer.value == pytest.approx(1.0)
    assert found.rows[:, 0].tolist() == list(range(40)) and found.rows.shape == (40, 3)
    assert (found.distances[:, 0] < found.limit).all()


def test_some_copies_among_new_pictures_are_found() -> None:
    training = features(200, 3)
    mixed = np.concatenate([training[:40], features(160, 4)])
    found = memorisation(mixed, training, features(200, 5))
    assert found.found and 0.2 <= found.near.value < 0.35


def test_new_pictures_are_not_claimed() -> None:
    """The interval holds 5% and 0.5 in about 95 of 100 cases."""
    found = [
        memorisation(features(80, 3 * s), features(100, 3 * s + 1), features(80, 3 * s + 2))
        for s in range(40)
    ]
    assert sum(one.found for one in found) <= 4
    assert np.mean([one.near.value for one in found]) == pytest.approx(0.05, abs=0.025)
    assert np.mean([one.nearer.value for one in found]) == pytest.approx(0.5, abs=0.03)
    held = [one.nearer.low < 0.5 < one.nearer.high for one in found]
    assert sum(held) >= 33


def test_repeated_pictures_are_one_draw() -> None:
    """One of eight that is near by chance is no finding, however often the eight are repeated."""
    training, held_out = features(100, 0), features(100, 1)
    eight = features(8, 2) + 9
    eight[0] = training[0]
    found = memorisation(np.repeat(eight, 40, axis=0), training, held_out)
    assert found.near.value == pytest.approx(0.125, abs=1e-9) and not found.found
    assert found.near.high > 0.3 and found.distances.shape == (320, 1)


def test_the_probability_is_that_of_all_pairs() -> None:
    training, new, own = features(50, 0), features(30, 1), np.repeat(features(10, 2), 3, axis=0)
    found = memorisation(own, training, new)
    pairs = [(a < b) + 0.5 * (a == b) for a in found.distances[:, 0] for b in found.held_out_distances]
    assert found.nearer.value == pytest.approx(np.mean(pairs))


def test_far_pictures_are_no_copies() -> None:
    found = memorisation(features(50, 0) + 9, features(100, 1), features(60, 2))
    assert not found.found and found.near.value == 0.0 and found.near.high > 0.02
    assert found.nearer.value == pytest.approx(0.0)


def test_the_interval_of_a_mean_is_that_of_the_central_limit() -> None:
    values = np.random.default_rng(0).exponential(2.0, 400)
    found, half = mean_of(values, 2000), 1.96 * values.std() / np.sqrt(400)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, rel=0.03)
    assert found.high == pytest.approx(values.mean() + half, rel=0.03)


def test_shares_have_wilsons_interval() -> None:
    none = share_of(0, 100)
    assert none.low == 0 and none.high == pytest.approx(0.03699, abs=1e-4)
    assert share_of(50, 100).low == pytest.approx(0.4038, abs=1e-4)
    assert mean_of(np.array([1.0] * 100)).low == pytest.approx(1 - 0.03699, abs=1e-4)


def test_resamples_are_seeded_and_counted() -> None:
    (rows,) = picked(9, 1, 5)
    assert counts(9, 1, 5)[0].tolist() == np.bincount(rows, minlength=9).tolist()
    assert counts(9, 3, 5)[:1].tolist() == counts(9, 1, 5).tolist() != counts(9, 1, 6).tolist()


def test_an_interval_is_around_its_figure_whatever_the_bias() -> None:
    found = around(3.0, np.array([10.0, 11.0, 12.0]))
    assert found.low < 3.0 < found.high
    assert around(float("nan"), np.zeros(9)).low is None
    x, y = features(200, 0)[:, 0], features(150, 1)[:, 0] + 2
    moved = of_two_sets(x, y, lambda a, b: float(b.mean() - a.mean()))
    assert moved.low < y.mean() - x.mean() < moved.high and moved.low > 1.5


def test_without_held_out_pictures_each_is_compared_with_the_others() -> None:
    training = features(60, 0)
    found = memorisation(training[:30] + 1e-3, training, None)
    others = [np.linalg.norm(np.delete(training, i, 0) - one, axis=1).min() for i, one in enumerate(training)]
    assert found.held_out_distances == pytest.approx(np.array(others))
    assert found.near.value == 1.0
    assert memorisation(features(80, 1), training, None).near.value < 0.2
