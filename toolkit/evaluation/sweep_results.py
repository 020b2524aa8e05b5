"""The points of a guidance sweep, as a table and as a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from glide.utils.atomic_write import atomic_path, write_text
from glide.utils.plots import figure


@dataclass(frozen=True)
class Point:
    """One guidance at one strength. Shares from 0 to 1, NaN where there was nothing to measure."""

    guidance: str
    scale: float  # of the guidances that were swept, else NaN
    right: int
    asked: int
    fidelity: float
    compared: int  # right pictures of the open captions, of which the diversity is
    diversity: float
    position: float
    size: float
    color: float
    background: float
    saturation: float
    calls: float  # evaluations of a U-Net for a picture, a weaker model's included
    seconds: float  # for a picture


def write_csv(path: Path, points: Sequence[Any]) -> None:
    """A line for each point, of one dataclass, with its fields as columns; values that were not measured are empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    names = [field.name for field in fields(points[0])]
    writer.writerow(names)
    for point in points:
        values = [getattr(point, name) for name in names]
        writer.writerow(
            [
                "" if isinstance(v, float) and math.isnan(v) else f"{v:.4g}" if isinstance(v, float) else v
                for v in values
            ]
        )
    write_text(path, text.getvalue())


def plot(path: Path, points: Sequence[Point], title: str) -> None:
    """Fidelity against diversity, and against saturation: a line for each guidance, with its scales."""
    sheet = figure(11.0, 5.0)
    for axes, name in zip(sheet.subplots(1, 2, sharey=True), ("diversity", "saturation"), strict=True):
        for line in dict.fromkeys(point.guidance for point in points):
            of_line = [point for point in points if point.guidance == line]
            xs, ys = [getattr(point, name) for point in of_line], [100 * point.fidelity for point in of_line]
            style = {"marker": "*", "markersize": 14, "linestyle": ""} if line == "data" else {"marker": "o"}
            axes.plot(xs, ys, label=line, **style)
            for x, y, point in zip(xs, ys, of_line, strict=True):
                if not math.isnan(point.scale) and not math.isnan(x):
                    axes.annotate(
                        f"{point.scale:g}", (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8
                    )
        axes.set_xlabel(
            {"diversity": "diversity: two pictures of a caption differ", "saturation": "saturation"}[name]
        )
        axes.grid(alpha=0.3)
    sheet.axes[0].set_ylabel("captions drawn right, %")
    sheet.axes[0].legend()
    sheet.suptitle(title)
    with atomic_path(path) as temporary:
        sheet.savefig(temporary, format="png")


def words(point: Point) -> str:
    """One line."""
    name = point.guidance + ("" if math.isnan(point.scale) else f" {point.scale:g}")
    return (
        f"{name}: {100 * point.fidelity:.1f}% right, diversity {point.diversity:.2f}, saturation "
        f"{point.saturation:.2f}, {point.calls:.0f} network calls and {point.seconds:.2f} s a picture"
    )
