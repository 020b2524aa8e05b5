"""Training curves: a run's losses, gradient norm and speed, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glide.training.metrics import read_log
from glide.utils.atomic_write import atomic_path
from glide.utils.plots import figure

MIN_LINES = 10  # a shorter log makes no useful curve
QUARTERS = ("least noise", "less", "more", "most noise")


def draw_curves(out: Path) -> Path | None:
    """Write `out/curves.png` from log.jsonl and validation.jsonl; None for a log of a few lines.

    InputError where matplotlib is not installed.
    """
    lines, held_out = read_log(out / "log.jsonl"), read_log(out / "validation.jsonl")
    if len(lines) < MIN_LINES:
        return None
    page = figure(11.0, 7.0)
    axes = page.subplots(2, 2)
    (loss, quarters), (norm, speed) = axes
    _curve(loss, lines, "loss", "training")
    _curve(loss, held_out, "validation_loss", "held out")
    for i, name in enumerate(QUARTERS):
        _curve(quarters, lines, "loss_quarters", name, i)
    _curve(norm, lines, "gradient_norm", "gradient norm")
    _curve(speed, lines, "images_per_second", "pictures a second")
    for axis, title in zip(axes.flat, ("loss", "loss by timestep", "gradient norm", "speed"), strict=True):
        axis.set_title(title)
        axis.set_xlabel("step")
        if axis.lines and title != "speed":
            axis.set_yscale("log")
        if len(axis.lines) > 1:
            axis.legend()
    with atomic_path(out / "curves.png") as temporary:
        page.savefig(temporary, format="png")
    return out / "curves.png"


def _curve(
    axis: Any, lines: Sequence[dict[str, Any]], name: str, label: str, part: int | None = None
) -> None:
    points = [(line["step"], line.get(name)) for line in lines]
    if part is not None:
        points = [(step, values[part] if values else None) for step, values in points]
    points = [(step, value) for step, value in points if value is not None]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, linewidth=1.2)
