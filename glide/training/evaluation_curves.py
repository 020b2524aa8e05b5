"""The curves of --evaluate-every: each figure of evaluation.jsonl over the steps, as a picture.

Shape letters: N pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from glide.training.metrics import read_log
from glide.utils.atomic_write import atomic_path
from glide.utils.plots import figure

EVALUATION, PICTURE = "evaluation.jsonl", "evaluation.png"
LOW, HIGH = "_low", "_high"
"""Endings of the names of a figure's interval."""
BESIDE = {"_real": "real pictures", "_bicubic": "bicubic"}
"""Endings of a figure's values for something else than the model, and their labels."""
COLUMNS = 3


def draw_evaluation(out: Path) -> Path | None:
    """Write `out/evaluation.png` from evaluation.jsonl; None where it has no figure.

    A panel for each figure, with its interval as a band and its value for real pictures, or another of `BESIDE`, as a
    dashed line. InputError where matplotlib is not installed.
    """
    lines = read_log(out / EVALUATION)
    names = figures_of(lines)
    if not names:
        return None
    rows = -(-len(names) // COLUMNS)
    page = figure(11.0, 3.2 * rows)
    panels = list(page.subplots(rows, COLUMNS, squeeze=False).flat)
    for name, axis in zip(names, panels, strict=False):
        _panel(axis, lines, name)
    for axis in panels[len(names) :]:
        axis.axis("off")
    with atomic_path(out / PICTURE) as temporary:
        page.savefig(temporary, format="png")
    return out / PICTURE


def figures_of(lines: Sequence[dict[str, Any]]) -> list[str]:
    """The names of the figures in the lines, in their order, without the step and those that belong to another."""
    found = dict.fromkeys(
        name for line in lines for name, value in line.items() if isinstance(value, int | float)
    )
    others = (LOW, HIGH, *BESIDE)
    return [name for name in found if name not in ("step", "seconds") and not name.endswith(others)]


def mean_with_interval(name: str, values: Tensor) -> dict[str, float]:
    """The mean of one value for each picture, float64 [N], with its 95% interval by the normal distribution."""
    mean = values.mean().item()
    if len(values) < 2:
        return {name: mean}
    half = 1.96 * values.std().item() / len(values) ** 0.5
    return {name: mean, name + LOW: mean - half, name + HIGH: mean + half}


def _panel(axis: Any, lines: Sequence[dict[str, Any]], name: str) -> None:
    known = [line for line in lines if line.get(name) is not None]
    steps = [line["step"] for line in known]
    axis.plot(steps, [line[name] for line in known], marker="o", markersize=3, linewidth=1.2, label="model")
    between = [
        line for line in known if line.get(name + LOW) is not None and line.get(name + HIGH) is not None
    ]
    if between:
        low, high = ([line[name + end] for line in between] for end in (LOW, HIGH))
        if len(between) > 1:
            axis.fill_between([line["step"] for line in between], low, high, alpha=0.2)
        else:  # a band of one point cannot be seen
            axis.vlines([line["step"] for line in between], low, high, alpha=0.4)
    for end, label in BESIDE.items():
        points = [(line["step"], line[name + end]) for line in known if line.get(name + end) is not None]
        if points:
            axis.plot(*zip(*points, strict=True), linestyle="--", color="gray", label=label)
            axis.legend()
    axis.set_title(name.replace("_", " "))
    axis.set_xlabel("step")
