"""Bradley-Terry strengths: a closed form for two models, a second algorithm for more, known strengths found again."""

import numpy as np
import pytest

from glide.utils.errors import InputError
from toolkit.evaluation.bradley_terry import ELO, PRIOR, deviations, fit


def by_mm(wins: np.ndarray, prior: float) -> np.ndarray:
    """Hunter's minorization-maximization (2004, Annals of Statistics 32), a second implementation."""
    counted = (wins + prior) * (1 - np.eye(len(wins)))
    both = counted + counted.T
    gamma = np.ones(len(wins))
    for _ in range(20_000):
        new = counted.sum(1) / (both / (gamma[:, None] + gamma[None, :])).sum(1)
        new /= np.exp(np.log(new).mean())
        if np.abs(new / gamma - 1).max() < 1e-14:
            break
        gamma = new
    return np.log(gamma)


@pytest.mark.parametrize(("won", "lost"), [(7, 3), (12.5, 7.5), (0, 20), (1000, 1)])
def test_two_models_have_the_log_odds_of_their_wins(won: float, lost: float) -> None:
    first, second = fit(np.array([[0, won], [lost, 0.0]]))
    assert first - second == pytest.approx(np.log((won + PRIOR) / (lost + PRIOR)), rel=1e-9)
    assert first + second == pytest.approx(0, abs=1e-12)


def test_ten_to_one_is_400_points() -> None:
    first, second = fit(np.array([[0, 10], [1, 0.0]]), prior=1e-12)
    assert ELO * (first - second) == pytest.approx(400, rel=1e-9)


@pytest.mark.parametrize("models", [3, 5, 9])
def test_several_models_as_by_another_algorithm(models: int) -> None:
    rng = np.random.default_rng(models)
    wins = rng.integers(0, 30, (models, models)) * rng.integers(0, 2, (models, models)) * 0.5
    assert fit(wins) == pytest.approx(by_mm(wins, PRIOR), abs=1e-9)
    assert fit(wins, 0.01) == pytest.approx(by_mm(wins, 0.01), abs=1e-7)


def test_many_at_once_are_as_one_by_one() -> None:
    wins = np.random.default_rng(0).integers(0, 20, (6, 4, 4)).astype(float)
    assert fit(wins) == pytest.approx(np.stack([fit(one) for one in wins]), abs=1e-9)


def test_a_model_that_always_wins_is_finite() -> None:
    wins = np.array([[0, 50, 50], [0, 0, 25], [0, 25, 0.0]])
    strengths = fit(wins)
    assert np.all(np.isfinite(strengths)) and strengths[0] > 3 and strengths[1] == pytest.approx(strengths[2])


def test_nothing_compared_is_all_alike() -> None:
    assert fit(np.zeros((4, 4))) == pytest.approx(np.zeros(4))


def test_deviations_are_those_of_two_models_in_closed_form() -> None:
    wins = np.array([[0, 30], [10, 0.0]])
    n, p = 40 + 2 * PRIOR, (30 + PRIOR) / (40 + 2 * PRIOR)
    found = deviations(wins, fit(wins))
    assert 2 * found == pytest.approx([1 / np.sqrt(n * p * (1 - p))] * 2)  # of the difference, twice a half


def test_deviations_are_the_curvature_by_differences() -> None:
    wins = np.random.default_rng(3).integers(1, 20, (4, 4)).astype(float)
    strengths, h = fit(wins), 1e-4
    counted = (wins + PRIOR) * (1 - np.eye(4))

    def likelihood(s: np.ndarray) -> float:
        return float(-(counted * np.logaddexp(0, s[None, :] - s[:, None])).sum())

    def second(i: int, j: int) -> float:
        a, b = np.eye(4)[i] * h, np.eye(4)[j] * h
        corners = [likelihood(strengths + x * a + y * b) * x * y for x in (1, -1) for y in (1, -1)]
        return sum(corners) / (4 * h * h)

    information = -np.array([[second(i, j) for j in range(4)] for i in range(4)])
    covariance = np.linalg.pinv(information, rcond=1e-4)
    assert deviations(wins, strengths) == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)


def test_known_strengths_are_within_their_intervals() -> None:
    """Of 300 strengths about 95% lie within 1.96 deviations: 273 to 297 with three deviations of that count."""
    true = np.array([0.9, 0.1, -0.2, -0.8])
    rng, inside = np.random.default_rng(7), 0
    share = 1 / (1 + np.exp(true[None, :] - true[:, None]))
    for _ in range(75):
        upper = np.triu(rng.binomial(60, share), 1)
        wins = upper + np.triu(60 - upper.astype(float), 1).T
        found = fit(wins)
        inside += int((np.abs(found - true) < 1.96 * deviations(wins, found)).sum())
    assert 273 <= inside <= 297


@pytest.mark.parametrize(
    ("wins", "prior"),
    [
        (np.zeros(3), 0.5),
        (np.zeros((2, 3)), 0.5),
        (np.zeros((1, 1)), 0.5),
        (np.array([[0, -1], [1, 0.0]]), 0.5),
        (np.array([[0, np.nan], [1, 0.0]]), 0.5),
        (np.ones((2, 2)), 0.0),
    ],
)
def test_what_are_no_counts_is_refused(wins: np.ndarray, prior: float) -> None:
    with pytest.raises(InputError, match="expected"):
        fit(wins, prior)
