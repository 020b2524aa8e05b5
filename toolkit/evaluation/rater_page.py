"""The page of a comparison: one HTML file with all pictures in it, which fetches nothing and runs from a disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from toolkit.evaluation.human_comparison import QUESTIONS, Comparison

HERE = Path(__file__).parent
ASKED = {
    1: "Say which of the two looks more real.",
    2: "Say first which of the two looks more real, then, once you see the caption, which fits it better.",
}
"""Instructions by the number of questions."""


def page(comparison: Comparison, pictures: Mapping[str, str]) -> str:
    """The HTML of a comparison. pictures: a data URI of each picture, by its id.

    It holds ids, captions and pixels, and nothing that says which model drew a picture, or which trials are catch
    trials.
    """
    shown = {
        "comparison": comparison.id,
        "questions": [{"id": one, "text": QUESTIONS[one]} for one in comparison.questions],
        "trials": [
            {"id": trial.id, "left": trial.left.id, "right": trial.right.id, "caption": trial.caption}
            for trial in comparison.trials
        ],
        "pictures": {one.id: pictures[one.id] for one in comparison.pictures},
    }
    html = _part("html")
    for mark, text in (
        ("@ASKED@", ASKED[len(comparison.questions)]),
        ("@STYLE@", _part("css")),
        ("@SCRIPT@", _part("js")),
        ("@DATA@", for_script(shown)),  # last, since captions may hold anything
    ):
        before, found, after = html.partition(mark)
        assert found, mark
        html = before + text + after
    return html


def for_script(value: object) -> str:
    r"""JSON that can stand in a <script> element: characters that could end it are written as \u003c and the like."""
    text = json.dumps(value, ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _part(ending: str) -> str:
    return (HERE / f"rater_page.{ending}").read_text("utf-8")
