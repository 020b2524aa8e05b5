"""The points of a sweep over samplers, as tables and as a plot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glide.utils.atomic_write import atomic_path
from glide.utils.plots import figure


@dataclass(frozen=True)
class SolverPoint:
    """One solver with one number of network calls."""

    line: str  # of the plot
    sampler: str
    spacing: str
    steps: int
    calls: int  # of the network for a picture, all conditions of a guidance in one
    right: int
    asked: int
    accuracy: float  # right / asked
    error: float  # one standard deviation of the accuracy, from the number asked
    distance: (
        float  # root of the mean square, from the reference's pictures in [-1, 1]; NaN for solvers with noise
    )
    seconds: float  # for a picture


def standard_error(right: int, asked: int) -> float:
    """Standard error of a share: sqrt(p (1 - p) / n), with half a picture added to either side: never 0."""
    p = (right + 0.5) / (asked + 1.0)
    return math.sqrt(p * (1.0 - p) / asked)


def table(points: Sequence[SolverPoint]) -> str:
    """Markdown: a row for each solver, a column for each number of calls; percent right, and the distance.

    A solver that could not make exactly so many calls stands under its own number.
    """
    columns = sorted({point.calls for point in points})
    lines = ["| solver | " + " | ".join(f"{calls} calls" for calls in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for line in dict.fromkeys(point.line for point in points):
        found = {point.calls: _cell(point) for point in points if point.line == line}
        lines.append(f"| {line} | " + " | ".join(found.get(calls, "") for calls in columns) + " |")
    return "\n".join(lines)


def _cell(point: SolverPoint) -> str:
    distance = "" if math.isnan(point.distance) else f" ({point.distance:.3f})"
    return f"{100 * point.accuracy:.1f}{distance}"


def plot(path: Path, points: Sequence[SolverPoint], reference: SolverPoint, title: str) -> None:
    """Accuracy and distance against network calls, a line for each solver; the reference's accuracy lies across."""
    sheet = figure(12.0, 5.0)
    accuracy, distance = sheet.subplots(1, 2)
    accuracy.axhline(
        100 * reference.accuracy, color="gray", linestyle="--", linewidth=1, label=reference.line
    )
    for line in dict.fromkeys(point.line for point in points):
        of_line = [point for point in points if point.line == line]
        calls = [point.calls for point in of_line]
        alone = {"linestyle": "", "marker": "*", "markersize": 12} if len(of_line) == 1 else {"marker": "o"}
        percent = [100 * point.accuracy for point in of_line]
        accuracy.errorbar(
            calls, percent, [100 * point.error for point in of_line], label=line, capsize=2, **alone
        )
        distance.plot(calls, [point.distance for point in of_line], label=line, **alone)
    accuracy.set_ylabel("captions drawn right, %, with one standard deviation")
    distance.set_ylabel(f"RMS distance from {reference.line} from the same noise")
    if any(point.distance > 0.0 for point in points):  # else there is nothing to take the logarithm of
        distance.set_yscale("log")
    for axes in (accuracy, distance):
        axes.set_xscale("log")
        axes.set_xticks(_apart(sorted({point.calls for point in points})), minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_xlabel("network calls for a picture")
        axes.grid(alpha=0.3)
    accuracy.legend(fontsize=8)
    sheet.suptitle(title)
    with atomic_path(path) as temporary:
        sheet.savefig(temporary, format="png")


def _apart(calls: Sequence[int]) -> list[int]:
    """The numbers that fit beside each other on a logarithmic axis, the smallest first."""
    kept: list[int] = []
    for number in calls:
        if not kept or number >= 1.2 * kept[-1]:
            kept.append(number)
    return kept


def words(point: SolverPoint) -> str:
    """One line."""
    far = "" if math.isnan(point.distance) else f", {point.distance:.4f} from the reference"
    return f"{point.line}, {point.calls} calls: {100 * point.accuracy:.1f}% right{far}, {point.seconds:.2f} s a picture"
