"""The analysis of a comparison by people: win rates, Elo points, agreement, the order effect, careless raters.

Intervals hold 95%. Each joins two: the quantiles of a bootstrap over raters and over captions at once (the pigeonhole
bootstrap, Owen 2007, Annals of Applied Statistics 1), which respects that answers of one rater, and about one caption,
go together; and that of independent answers (Wilson's of a share, the likelihood's curvature for Elo points), which
does not vanish where all raters agree.

K models, R raters, C captions, U trials, N answers, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glide.utils.errors import InputError
from glide.utils.printable import few
from toolkit.evaluation.bradley_terry import ELO, PRIOR, deviations, fit
from toolkit.evaluation.human_comparison import PAIR, QUESTIONS, Comparison, Trial
from toolkit.evaluation.rater_agreement import MISSING, alpha, coincidences, percent_agreement
from toolkit.evaluation.rater_answers import Answer, Rater

Array = NDArray[np.float64]
Places = Sequence[tuple[str, str]]
"""The rater and the caption of each answer."""
Interval = list[float] | None

Z = 1.959963984540054
"""Standard deviations of a normal distribution that hold 95%."""
LEVELS = (0.025, 0.975)
CHUNK = 250  # resamples at a time, which bounds memory


@dataclass(frozen=True)
class Resamples:
    """Times that each rater [B, R] and each caption [B, C] was drawn, with the numbers of both by name."""

    raters: Array
    captions: Array
    rater_number: dict[str, int]
    caption_number: dict[str, int]

    def sums(self, places: Places, values: Array) -> Array:
        """Sums [B, ...] of the values [N, ...] of answers, each as often as its rater and its caption were drawn."""
        raters = [self.rater_number[rater] for rater, _ in places]
        captions = [self.caption_number[caption] for _, caption in places]
        parts = [
            np.tensordot(
                self.raters[i : i + CHUNK, raters] * self.captions[i : i + CHUNK, captions], values, 1
            )
            for i in range(0, len(self.raters), CHUNK)
        ]
        return np.concatenate(parts)


def analyse(
    comparison: Comparison,
    raters: Sequence[Rater],
    *,
    catch_pass: float = 0.8,
    keep_failed: bool = False,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """The report, JSON-able, of all raters' answers.

    catch_pass: share of the catch trials that a rater must have right; others are listed and left out, unless
    keep_failed. resamples, seed: of the bootstrap. InputError if nobody is left.
    """
    used = [rater for rater in raters if keep_failed or rater.passed(catch_pass)]
    if not used:
        raise InputError(
            f"all {len(raters)} raters failed their catch trials ({few([rater.name for rater in raters])}), expected "
            "one who passed: collect more answers, or give --keep-failed"
        )
    drawn = _resampled(comparison, used, resamples, seed)
    questions = {}
    for question in comparison.questions:
        answers = [
            (rater.name, one)
            for rater in used
            for one in rater.answers
            if one.question == question and one.trial.kind == PAIR
        ]
        if answers:
            questions[question] = _of_question(comparison, answers, drawn)
    return {
        "comparison": comparison.id,
        "models": list(comparison.models),
        "pairs": sum(trial.kind == PAIR for trial in comparison.trials),
        "raters": [_of_rater(rater, rater in used, catch_pass) for rater in raters],
        "questions": questions,
        "settings": {
            "catch_pass": catch_pass,
            "keep_failed": keep_failed,
            "bootstrap": resamples,
            "seed": seed,
            "prior": PRIOR,
            "interval": 0.95,
        },
    }


def _resampled(comparison: Comparison, raters: Sequence[Rater], count: int, seed: int) -> Resamples:
    """Draw raters and captions with replacement, as many as there are."""
    rng = np.random.default_rng((seed, 0xB0075))
    names = {rater.name: i for i, rater in enumerate(raters)}
    captions = {one: i for i, one in enumerate(dict.fromkeys(_caption(t) for t in comparison.trials))}
    draws = [
        rng.multinomial(n, np.full(n, 1.0 / n), size=count).astype(np.float64)
        for n in (len(names), len(captions))
    ]
    return Resamples(draws[0], draws[1], names, captions)


def _caption(trial: Trial) -> str:
    """The unit that is resampled: a caption, with all its pictures; a name where there are no captions."""
    return trial.caption or trial.name


def _of_rater(rater: Rater, used: bool, catch_pass: float) -> dict[str, Any]:
    known = rater.catch_answers
    return {
        "name": rater.name,
        "file": rater.file,
        "answers": len(rater.answers),
        "catch_trials": len(known),
        "catch_trials_right": sum(known),
        "passed": rater.passed(catch_pass),
        "counted": used,
        "median_seconds": round(float(np.median([one.seconds for one in rater.answers])), 3),
    }


def _of_question(
    comparison: Comparison, answers: Sequence[tuple[str, Answer]], drawn: Resamples
) -> dict[str, Any]:
    """Figures of one question. answers: of the pairs of models, each with its rater's name."""
    models = comparison.models
    places = [(name, _caption(one.trial)) for name, one in answers]
    entries = np.stack([_entry(one, models) for _, one in answers])  # [N, K, K]
    wins, resampled = entries.sum(0), drawn.sums(places, entries)  # [K, K], [B, K, K]
    ties = np.array([not one.chosen for _, one in answers])
    return {
        "answers": len(answers),
        "tie_share": float(ties.mean()),
        "win_rates": [
            _win_rate(models, i, j, wins, resampled, ties, entries)
            for i, j in combinations(range(len(models)), 2)
        ],
        "elo": _elo(models, wins, resampled),
        "agreement": _agreement(models, answers, drawn),
        "left_chosen": _order_effect(answers, drawn.sums(places, _sides(answers))),
    }


def _entry(answer: Answer, models: Sequence[str]) -> Array:
    """[K, K] with 1 in the winner's row and the loser's column; 0.5 in both places for a tie."""
    trial = answer.trial
    left, right = (models.index(one) for one in trial.models)
    share = 0.5 if not answer.chosen else float(answer.chosen == trial.left.id)
    found = np.zeros((len(models), len(models)))
    found[left, right], found[right, left] = share, 1.0 - share
    return found


def _win_rate(
    models: Sequence[str], i: int, j: int, wins: Array, resampled: Array, ties: NDArray[Any], entries: Array
) -> dict[str, Any]:
    """Share of the comparisons of models i and j that i won, with ties as half a win."""
    of_pair = entries[:, i, j] + entries[:, j, i] > 0
    count, tied = int(of_pair.sum()), int((of_pair & ties).sum())
    won = wins[i, j] - tied / 2
    found: dict[str, Any] = {"first": models[i], "second": models[j], "answers": count, "ties": tied}
    found |= {"wins": round(won), "losses": count - tied - round(won)}
    both = resampled[:, i, j] + resampled[:, j, i]
    shares = resampled[:, i, j][both > 0] / both[both > 0]
    won_share = float(wins[i, j] / count) if count else None
    return found | {"share": won_share, "interval": _share_interval(wins[i, j], count, shares)}


def _elo(models: Sequence[str], wins: Array, resampled: Array) -> list[dict[str, Any]]:
    """Elo points of each model, of mean 0, with intervals, the best first."""
    strengths = fit(wins)
    low, high = np.quantile(fit(resampled), LEVELS, axis=0)
    half = Z * deviations(wins, strengths)
    low, high = np.minimum(low, strengths - half), np.maximum(high, strengths + half)
    found = [
        {"model": model, "elo": ELO * s, "interval": [ELO * a, ELO * b]}
        for model, s, a, b in zip(models, strengths.tolist(), low.tolist(), high.tolist(), strict=True)
    ]
    return sorted(found, key=lambda one: -float(one["elo"]))


def _agreement(
    models: Sequence[str], answers: Sequence[tuple[str, Answer]], drawn: Resamples
) -> dict[str, Any]:
    """Krippendorff's alpha of the answers first model, neither, second model; captions are resampled."""
    trials = {one.trial.id: one.trial for _, one in answers}
    number = {ident: i for i, ident in enumerate(trials)}
    ratings = np.full((len(drawn.rater_number), len(trials)), MISSING, np.int64)
    for name, one in answers:
        first = min(one.trial.left, one.trial.right, key=lambda picture: models.index(picture.model))
        rating = 1 if not one.chosen else 0 if one.chosen == first.id else 2
        ratings[drawn.rater_number[name], number[one.trial.id]] = rating
    units = coincidences(ratings, 3)  # [U, 3, 3]
    of_caption = np.zeros((len(drawn.caption_number), 3, 3))
    np.add.at(of_caption, [drawn.caption_number[_caption(trial)] for trial in trials.values()], units)
    whole, again = units.sum(0), alpha(np.tensordot(drawn.captions, of_caption, axes=1))
    value, again = float(alpha(whole)), again[np.isfinite(again)]
    defined = bool(np.isfinite(value))
    return {
        "measure": "Krippendorff's alpha, nominal",
        "trials_of_several_raters": int((units.sum((1, 2)) > 0).sum()),
        "alpha": value if defined else None,
        "interval": _quantiles(again, value) if defined else None,
        "alike": percent_agreement(whole) if whole.sum() else None,
    }


def _quantiles(resampled: Array, value: float) -> list[float]:
    """Those of a 95% interval; the value itself, twice, without resamples."""
    return [float(one) for one in np.quantile(resampled, LEVELS)] if len(resampled) else [value, value]


def _sides(answers: Sequence[tuple[str, Answer]]) -> Array:
    """[N, 2]: 1 where the left picture was chosen, and 1 where either was."""
    return np.array([[one.chosen == one.left, bool(one.chosen)] for _, one in answers], np.float64)


def _order_effect(answers: Sequence[tuple[str, Answer]], resampled: Array) -> dict[str, Any]:
    """Share of the answers that chose a picture in which it was the left one, A: 0.5 without an order effect.

    resampled: sums of `_sides` [B, 2].
    """
    left, decided = _sides(answers).sum(0).tolist()
    shares = resampled[resampled[:, 1] > 0]
    return {
        "decided": int(decided),
        "share": left / decided if decided else None,
        "interval": _share_interval(left, int(decided), shares[:, 0] / shares[:, 1]),
    }


def _share_interval(won: float, count: int, resampled: Array) -> Interval:
    """Wilson's interval (1927) joined with the bootstrap's; None without answers."""
    if not count:
        return None
    share, spread = won / count, Z**2 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * np.sqrt(share * (1 - share) / count + spread / (4 * count))
    low, high = _quantiles(resampled, share)
    return [max(0.0, float(min(low, middle - half))), min(1.0, float(max(high, middle + half)))]


def table(report: dict[str, Any]) -> str:
    """The report as text for a terminal."""
    raters, questions = report["raters"], report["questions"]
    counted = [one for one in raters if one["counted"]]
    lines = [f"comparison {report['comparison']}: {len(counted)} of {len(raters)} raters counted", ""]
    width = max(len("rater"), *(len(one["name"]) for one in raters))
    lines.append(f"{'rater':{width}}  answers  catch trials right  median seconds")
    for one in raters:
        right = f"{one['catch_trials_right']} of {one['catch_trials']}"
        note = "" if one["passed"] else "  failed" + (", counted" if one["counted"] else ", left out")
        lines.append(
            f"{one['name']:{width}}  {one['answers']:7}  {right:>18}  {one['median_seconds']:14.1f}{note}"
        )
    for question, found in questions.items():
        lines += ["", *_question_lines(QUESTIONS[question], found)]
    return "\n".join(lines)


def _question_lines(title: str, found: dict[str, Any]) -> list[str]:
    lines = [f"{title}  {found['answers']} answers, {100 * found['tie_share']:.0f}% neither"]
    for one in found["win_rates"]:
        if one["answers"]:
            rate = _percent(one["share"], one["interval"])
            counts = f"{one['wins']} won, {one['ties']} neither, {one['losses']} lost"
            lines.append(f"  {one['first']} over {one['second']}: {rate}; {counts}")
    width = max(len(one["model"]) for one in found["elo"])
    for one in found["elo"]:
        low, high = one["interval"]
        lines.append(f"  {one['model']:{width}}  {one['elo']:+7.1f} Elo ({low:+.1f} to {high:+.1f})")
    agreed = found["agreement"]
    if agreed["alpha"] is None:
        why = (
            "all answers are alike"
            if agreed["trials_of_several_raters"]
            else "it takes two raters of one pair"
        )
        lines.append(f"  agreement: undefined, {why}")
    else:
        low, high = agreed["interval"]
        lines.append(
            f"  agreement: Krippendorff's alpha {agreed['alpha']:.2f} ({low:.2f} to {high:.2f}), "
            f"{100 * agreed['alike']:.0f}% of pairs of answers alike"
        )
    order = found["left_chosen"]
    if order["share"] is not None:
        lines.append(f"  order: A, on the left, chosen in {_percent(order['share'], order['interval'])}")
    return lines


def _percent(share: float, interval: Sequence[float]) -> str:
    return f"{100 * share:.1f}% ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})"
