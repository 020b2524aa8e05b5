"""Folders of pictures that can be compared, and raters who are simulated."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from glide.utils.images import save_png
from toolkit.evaluation.human_comparison import CATCH, PAIR, Comparison, Trial, plan
from toolkit.evaluation.rater_answers import FORMAT

HOSTILE = (
    "</script><script>window.hit = 1</script>",
    "\"quotes\" 'single' & <b onclick='hit()'>bold</b> @DATA@ @SCRIPT@",
    "line\u2028separator \u202e right to left \U0001f600 </SCRIPT >",
    "<!-- <script> -->",
)
Choose = Callable[[Trial, str], str]
"""The id of the chosen picture of a trial, empty for neither."""


def folders(root: Path, models: Sequence[str], captions: Sequence[str], size: int = 16) -> list[Path]:
    """A folder for each model, with a picture of noise for each caption, as sample.py writes them."""
    for i, model in enumerate(models):
        for j, caption in enumerate(captions):
            pixels = np.random.default_rng((i, j)).integers(0, 256, (size, size, 3), dtype=np.uint8)
            recipe = {"model": model, "prompt": caption}
            save_png(root / model / f"{j:05d}.png", Image.fromarray(pixels), recipe)
    return [root / model for model in models]


def small_plan(models: Sequence[str] = ("a", "b", "c"), captions: int = 10, catch: int = 6) -> Comparison:
    names = [f"{i:05d}" for i in range(captions)]
    words = {name: f"caption {i} of thing{i}" for i, name in enumerate(names)}
    return plan(models, names, words, seed=5, catch_trials=catch)


def answers(comparison: Comparison, rater: str, choose: Choose, seed: int = 0) -> dict[str, Any]:
    """The file of a rater who answers all, half of the trials with swapped sides."""
    rng, found = np.random.default_rng(seed), []
    for trial in comparison.trials:
        left, right = trial.left.id, trial.right.id
        if rng.random() < 0.5:
            left, right = right, left
        for question in comparison.questions:
            chosen = choose(trial, question)
            choice = {left: "left", right: "right"}.get(chosen, "tie")
            found.append(
                {"trial": trial.id, "question": question, "choice": choice, "left": left, "right": right}
                | {"seconds": 1.5}
            )
    return {"format": FORMAT, "version": 1, "comparison": comparison.id, "rater": rater, "answers": found}


def by_strength(strengths: dict[str, float], seed: int, ties: float = 0.0, attentive: bool = True) -> Choose:
    """A rater whose preference follows Bradley and Terry, and who sees catch trials through if attentive."""
    rng = np.random.default_rng(seed)

    def choose(trial: Trial, question: str) -> str:
        if CATCH.get(trial.kind) == question and attentive:
            return trial.expected
        if trial.kind != PAIR or rng.random() < ties:
            return ""
        left, right = (strengths[one] for one in trial.models)
        return trial.left.id if rng.random() < 1 / (1 + np.exp(right - left)) else trial.right.id

    return choose


def write(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), "utf-8")
    return path
