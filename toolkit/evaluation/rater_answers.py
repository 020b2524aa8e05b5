"""Answers of raters to a comparison, read from the files that its page wrote.

R raters, P pairs of models, U trials, K models.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glide.utils.errors import InputError
from glide.utils.json_files import kind_of, read_table
from glide.utils.printable import beginning, printable
from toolkit.evaluation.human_comparison import CATCH, Comparison, Trial

FORMAT = "glide comparison answers"
CHOICES = ("left", "right", "tie")
LONGEST = 1e6  # seconds of one answer, whatever a file says


@dataclass(frozen=True)
class Answer:
    """One rater's answer to one question about one trial."""

    trial: Trial
    question: str
    chosen: str
    """Id of the picture; empty for neither."""
    left: str
    """Id of the picture that stood on the left, which differs from rater to rater."""
    seconds: float


@dataclass(frozen=True)
class Rater:
    """A rater, with all answers."""

    name: str
    file: str
    answers: tuple[Answer, ...]

    @property
    def catch_answers(self) -> list[bool]:
        """Of each answer whose right one is known: true where it was given."""
        return [
            answer.chosen == answer.trial.expected
            for answer in self.answers
            if CATCH.get(answer.trial.kind) == answer.question
        ]

    def passed(self, share: float) -> bool:
        """True for who answered at least this share of the catch trials right, or has seen none yet."""
        known = self.catch_answers
        return sum(known) >= share * len(known) - 1e-9


def read_answers(files: Sequence[str | Path], comparison: Comparison) -> list[Rater]:
    """The raters of some files. InputError, in one sentence, for a file that does not fit, and for a rater twice."""
    raters: list[Rater] = []
    for file in files:
        rater = _read(read_table(file, "answers to a comparison"), str(file), comparison)
        other = next((one for one in raters if _same(one.name) == _same(rater.name)), None)
        if other is not None:
            raise InputError(
                f"{file} and {other.file} are both of the rater {rater.name}, expected one file of each: leave out the "
                "older one, or rename one of two people of that name"
            )
        raters.append(rater)
    return raters


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _read(table: dict[str, Any], file: str, comparison: Comparison) -> Rater:
    if table.get("format") != FORMAT or table.get("version") != 1:
        raise InputError(f"{file} holds no answers to a comparison: give a file that its page downloaded")
    if table.get("comparison") != comparison.id:
        raise InputError(
            f"{file} answers the comparison {_shown(table.get('comparison'))}, expected {comparison.id}: give the key "
            "of that page, or other answers"
        )
    name, answers = table.get("rater"), table.get("answers")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"{file} names no rater, expected a name: write one into its field rater")
    if not isinstance(answers, list) or not answers:
        raise InputError(f"{file} holds no answers of {_shown(name)}, expected at least one: leave it out")
    trials = {trial.id: trial for trial in comparison.trials}
    found: dict[tuple[str, str], Answer] = {}
    for number, value in enumerate(answers, 1):
        answer = _answer(value, f"answer {number} in {file}", trials, comparison.questions)
        place = answer.trial.id, answer.question
        if place in found:
            raise InputError(
                f"answer {number} in {file} is the second one to its question, expected one: remove one of the two"
            )
        found[place] = answer
    return Rater(printable(" ".join(name.split()), 80), file, tuple(found.values()))


def _answer(value: Any, where: str, trials: dict[str, Trial], questions: Sequence[str]) -> Answer:
    """InputError for an answer that the page cannot have written."""
    if not isinstance(value, dict):
        raise InputError(
            f"{where} is {kind_of(value)}, expected an object: give the file as it was downloaded"
        )
    trial = trials.get(value["trial"]) if isinstance(value.get("trial"), str) else None
    if trial is None:
        raise _unknown(where, "trial", value.get("trial"), "one of the key's")
    if value.get("question") not in questions:
        raise _unknown(where, "question", value.get("question"), " or ".join(questions))
    if value.get("choice") not in CHOICES:
        raise _unknown(where, "choice", value.get("choice"), "left, right or tie")
    sides = {"left": value.get("left"), "right": value.get("right")}
    for side, picture in sides.items():
        if picture not in (trial.left.id, trial.right.id):
            raise _unknown(where, f"{side} picture", picture, "one of its trial's")
    if sides["left"] == sides["right"]:
        raise _unknown(where, "right picture", sides["right"], "another one than the left")
    seconds = value.get("seconds")
    taken = float(seconds) if isinstance(seconds, int | float) and not isinstance(seconds, bool) else 0.0
    return Answer(
        trial,
        str(value["question"]),
        str(sides.get(value["choice"], "")),
        str(sides["left"]),
        min(max(taken, 0.0), LONGEST),
    )


def _unknown(where: str, field: str, value: Any, expected: str) -> InputError:
    return InputError(
        f"{where} has the {field} {_shown(value)}, expected {expected}: give the file as it was downloaded"
    )


def _shown(value: Any) -> str:
    return beginning(repr(value), 60) if not isinstance(value, dict | list) else kind_of(value)
