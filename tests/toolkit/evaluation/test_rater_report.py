"""The analysis of answers: known strengths are found again, careless raters and an order effect are seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glide.utils.errors import InputError
from support.comparison import answers, by_strength, small_plan, write
from toolkit.evaluation.bradley_terry import ELO
from toolkit.evaluation.human_comparison import CATCH, FITS, REAL, Comparison, Trial
from toolkit.evaluation.rater_answers import Rater, read_answers
from toolkit.evaluation.rater_report import analyse, table

TRUE = {"a": 0.8, "b": 0.0, "c": -0.8}


def raters(tmp_path: Path, comparison: Comparison, **choosers: Any) -> list[Rater]:
    files = [
        write(tmp_path / f"{name}.json", answers(comparison, name, choose, seed))
        for seed, (name, choose) in enumerate(choosers.items())
    ]
    return read_answers(files, comparison)


def always(side: str) -> Any:
    """A rater who presses one key only. The simulated file swaps sides at random, so it is not one model."""
    return lambda trial, question: side


@pytest.mark.slow
def test_known_strengths_are_recovered_within_their_intervals(tmp_path: Path) -> None:
    comparison = small_plan(captions=60)
    people = {f"r{i}": by_strength(TRUE, seed=i, ties=0.1) for i in range(6)}
    report = analyse(comparison, raters(tmp_path, comparison, **people), resamples=400)
    for question in (REAL, FITS):
        found = report["questions"][question]
        elo = {one["model"]: one for one in found["elo"]}
        assert [one["model"] for one in found["elo"]] == ["a", "b", "c"]
        assert sum(one["elo"] for one in elo.values()) == pytest.approx(0, abs=1e-6)
        shrunk = 0.9  # a tenth are ties, which pull towards each other
        for model, strength in TRUE.items():
            low, high = elo[model]["interval"]
            assert low < shrunk * ELO * strength < high and high - low < 120
        for rate in found["win_rates"]:
            share = 1 / (1 + np.exp(TRUE[rate["second"]] - TRUE[rate["first"]]))
            low, high = rate["interval"]
            assert low < 0.05 + 0.9 * share < high
            assert rate["wins"] + rate["losses"] + rate["ties"] == rate["answers"] == 360
            assert rate["share"] == pytest.approx((rate["wins"] + rate["ties"] / 2) / 360)
        low, high = found["left_chosen"]["interval"]
        assert low < 0.5 < high


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say(tmp_path: Path) -> None:
    """Of 40 comparisons of two equal models at least 34 (95% are 38, three deviations lower) have 50% inside."""
    inside = 0
    for seed in range(40):
        comparison = small_plan(("a", "b"), captions=15, catch=0)
        people = {f"r{i}": by_strength({"a": 0.0, "b": 0.0}, 100 * seed + i) for i in range(3)}
        report = analyse(comparison, raters(tmp_path, comparison, **people), resamples=100)
        low, high = report["questions"][REAL]["win_rates"][0]["interval"]
        inside += low <= 0.5 <= high
    assert inside >= 34


def test_raters_who_depend_on_each_other_widen_the_interval(tmp_path: Path) -> None:
    """Eight copies of one opinion are not eight opinions: the bootstrap over captions sees it."""
    comparison = small_plan(("a", "b"), captions=20, catch=0)
    fixed = {trial.id: bool(i % 2) for i, trial in enumerate(sorted(comparison.trials, key=lambda t: t.name))}

    def copied(trial: Trial, question: str) -> str:
        wanted = "a" if fixed[trial.id] else "b"
        return next(one.id for one in (trial.left, trial.right) if one.model == wanted)

    people = {f"r{i}": copied for i in range(8)}
    report = analyse(comparison, raters(tmp_path, comparison, **people), resamples=500)
    (rate,) = report["questions"][REAL]["win_rates"]
    low, high = rate["interval"]
    assert rate["share"] == 0.5 and high - low > 0.35  # 160 independent answers would have 0.15
    assert report["questions"][REAL]["agreement"]["alpha"] == pytest.approx(1)


def test_a_model_that_always_wins_has_a_finite_interval(tmp_path: Path) -> None:
    comparison = small_plan(("a", "b"), captions=20)
    report = analyse(
        comparison, raters(tmp_path, comparison, r=by_strength({"a": 50.0, "b": -50.0}, 0)), resamples=100
    )
    (rate,) = report["questions"][REAL]["win_rates"]
    assert rate["share"] == 1 and rate["interval"] == pytest.approx([20 / (20 + 1.959964**2), 1.0])
    first, second = report["questions"][REAL]["elo"]
    assert 300 < first["elo"] < 1000 and first["interval"][0] < first["elo"] < first["interval"][1]
    assert first["model"] == "a" and second["elo"] == pytest.approx(-first["elo"])


def test_careless_raters_are_listed_and_left_out(tmp_path: Path) -> None:
    comparison = small_plan()
    people = {
        "good": by_strength(TRUE, 0),
        "careless": by_strength({"a": -9.0, "b": 0.0, "c": 9.0}, 1, attentive=False),
    }
    found = raters(tmp_path, comparison, **people)
    report = analyse(comparison, found, resamples=100)
    assert [(one["name"], one["passed"], one["counted"]) for one in report["raters"]] == [
        ("good", True, True),
        ("careless", False, False),
    ]
    assert [one["catch_trials_right"] for one in report["raters"]] == [6, 0]
    assert report["questions"][REAL]["answers"] == 30
    assert "careless" in table(report) and "failed, left out" in table(report)
    both = analyse(comparison, found, resamples=100, keep_failed=True)
    assert both["questions"][REAL]["answers"] == 60 and "failed, counted" in table(both)
    with pytest.raises(InputError, match=r"all 1 raters failed .*careless.*--keep-failed"):
        analyse(comparison, found[1:])


def test_an_order_effect_is_seen(tmp_path: Path) -> None:
    comparison = small_plan(captions=20)
    value = answers(comparison, "left", by_strength(TRUE, 0))
    by_id = {trial.id: trial for trial in comparison.trials}
    for one in value["answers"]:
        if by_id[one["trial"]].kind not in CATCH:
            one["choice"] = "left"
    report = analyse(comparison, read_answers([write(tmp_path / "a.json", value)], comparison), resamples=200)
    found = report["questions"][REAL]["left_chosen"]
    assert found["share"] == 1 and found["interval"][0] > 0.9 and found["decided"] == 60


def test_agreement_of_equal_and_of_random_raters(tmp_path: Path) -> None:
    comparison = small_plan(captions=60)
    same = raters(tmp_path, comparison, x=by_strength(TRUE, 3), y=by_strength(TRUE, 3))
    report = analyse(comparison, same, resamples=100)
    assert report["questions"][REAL]["agreement"]["alpha"] == pytest.approx(1)
    even = dict.fromkeys(TRUE, 0.0)
    apart = raters(tmp_path, comparison, x=by_strength(even, 1), y=by_strength(even, 2))
    found = analyse(comparison, apart, resamples=100)["questions"][REAL]["agreement"]
    assert found["interval"][0] < 0 < found["interval"][1] and abs(found["alpha"]) < 0.25
    assert found["trials_of_several_raters"] == 180


def test_part_of_the_answers_and_one_question_alone(tmp_path: Path) -> None:
    comparison = small_plan()
    value = answers(comparison, "early", by_strength(TRUE, 0))
    value["answers"] = [one for one in value["answers"] if one["question"] == REAL][:4]
    report = analyse(comparison, read_answers([write(tmp_path / "a.json", value)], comparison), resamples=100)
    assert list(report["questions"]) == [REAL]
    assert report["questions"][REAL]["agreement"]["alpha"] is None
    assert "it takes two raters" in table(report)
    assert json.loads(json.dumps(report)) == report  # no nan, no numpy


def test_the_same_seed_gives_the_same_report(tmp_path: Path) -> None:
    comparison = small_plan()
    found = raters(tmp_path, comparison, x=by_strength(TRUE, 3), y=by_strength(TRUE, 4))
    one, again, other = (analyse(comparison, found, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_all_ties_are_even(tmp_path: Path) -> None:
    comparison = small_plan(catch=0)
    report = analyse(comparison, raters(tmp_path, comparison, x=always("")), resamples=100)
    assert all(rate["share"] == 0.5 for rate in report["questions"][FITS]["win_rates"])
    assert report["questions"][FITS]["left_chosen"] == {"decided": 0, "share": None, "interval": None}
    assert "100% neither" in table(report)
