"""Answer a comparison of the built-in scenes in the place of people: the oracle as a simulated rater.

example:
    python examples/comparison/oracle_rater.py outputs/shapes outputs/shapes-latent --key outputs/compare.key.json

It writes the answers of three raters, in the form that the page downloads: `oracle`; `distracted`, who is the oracle
except that one answer in ten is a key pressed at random; and `careless`, who always presses A. They show what the
analysis makes of answers, and what the oracle sees. What people see only people can say.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a checkout

import numpy as np
from tyro.conf import Positional, arg

from glide.shapes.oracle import Oracle, judge_reading
from glide.utils.cli import parse, run
from glide.utils.image_files import read_picture
from glide.utils.json_files import read_json
from glide.utils.printable import say
from toolkit.commands.report import write_json
from toolkit.evaluation.human_comparison import FITS, Comparison, Picture, Trial, read_key
from toolkit.evaluation.matched_folders import Folders, damaged, match
from toolkit.evaluation.rater_answers import FORMAT

TIE = 0.01
"""Difference in overlap below which two pictures look as real."""
RANDOM_SHARE = 0.1
Choose = Callable[[Trial, str], str]
"""The id of the picture that a rater chooses, empty for neither."""


@dataclass(frozen=True)
class OracleRater:
    """The flags."""

    folders: Annotated[Positional[tuple[str, ...]], arg(metavar="FOLDER")]
    """The folders of the comparison."""
    key: Annotated[str, arg(metavar="FILE")]
    """Its key."""
    out: Path = Path("outputs/answers")
    """Receives oracle.json, distracted.json and careless.json."""
    overwrite: bool = False
    """Replace these."""


class OracleJudge:
    """Reads each picture once. More real: its things overlap more with drawings of their shapes. Fits better: more
    facts of the caption hold."""

    def __init__(self, folders: Folders, seed: int) -> None:
        self.folders, self.seed, self.oracle = folders, seed, Oracle()
        self._scores: dict[tuple[str, str, str], float] = {}

    def choose(self, trial: Trial, question: str) -> str:
        """The id of the better picture; empty for neither."""
        left, right = (self._score(one, trial.caption, question) for one in (trial.left, trial.right))
        if abs(left - right) < (0.5 if question == FITS else TIE):
            return ""
        return trial.left.id if left > right else trial.right.id

    def _score(self, picture: Picture, caption: str, question: str) -> float:
        place = (picture.id, caption, question)
        if place not in self._scores:
            path = self.folders.files[self.folders.models.index(picture.model)][picture.name]
            shown = read_picture(path).convert("RGB")
            if picture.damaged:
                shown = damaged(shown, self.seed)
            reading = self.oracle.read(np.array(shown))
            if question == FITS:
                score = float(sum(right for _, right in judge_reading(reading, caption).verdicts))
            else:
                score = min((thing.overlap for thing in reading.things), default=0.0)
                score *= reading.background is not None
            self._scores[place] = score
        return self._scores[place]


def answers(
    comparison: Comparison, rater: str, choose: Choose, press: Choose | None = None
) -> dict[str, object]:
    """A file of answers. press: gives "left", "right" or "tie" in place of a choice, or "" to choose."""
    found = []
    for trial in comparison.trials:
        for question in comparison.questions:
            choice = press(trial, question) if press else ""
            if not choice:
                choice = {trial.left.id: "left", trial.right.id: "right"}.get(choose(trial, question), "tie")
            found.append(
                {
                    "trial": trial.id,
                    "question": question,
                    "choice": choice,
                    "left": trial.left.id,
                    "right": trial.right.id,
                    "seconds": 0.0,
                }
            )
    return {"format": FORMAT, "version": 1, "comparison": comparison.id, "rater": rater, "answers": found}


def simulate(args: OracleRater) -> list[Path]:
    """Write the three files; returns their paths. InputError for folders that are not the key's."""
    comparison = read_key(read_json(args.key), args.key)
    judge = OracleJudge(match(args.folders), comparison.seed)
    rng = np.random.default_rng(comparison.seed)

    def distracted(trial: Trial, question: str) -> str:
        return str(rng.choice(["left", "right", "tie"])) if rng.random() < RANDOM_SHARE else ""

    raters: Sequence[tuple[str, Choose | None]] = (
        ("oracle", None),
        ("distracted", distracted),
        ("careless", lambda trial, question: "left"),
    )
    return [
        write_json(args.out / f"{name}.json", answers(comparison, name, judge.choose, press), args.overwrite)
        for name, press in raters
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """The command."""
    written = simulate(parse(OracleRater, __doc__, argv))
    say(f"written: {', '.join(map(str, written))}")


if __name__ == "__main__":
    run(main)
