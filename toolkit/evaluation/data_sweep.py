"""Points of a sweep that are judged by pictures of one's own: fidelity against diversity in a network's features.

Shape letters: N pictures.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from glide.networks.image_request import ImageRequest
from glide.utils.atomic_write import atomic_path, write_text
from glide.utils.plots import figure
from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.comparison import Sets, compare
from toolkit.evaluation.drawn_pictures import DrawnPictures, draw_into, requests_of
from toolkit.evaluation.extraction import Extracted, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features
from toolkit.evaluation.guidance_sweep import counted
from toolkit.evaluation.picture_sets import PictureSet
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

SHORT = ("precision", "recall", "clip_score", "class_accuracy", "frechet_distance")
"""Figures of the line on the screen, as far as there are any."""


@dataclass(frozen=True)
class Setting:
    """One point of a sweep before it is drawn."""

    line: str
    """Of the plot."""
    value: float
    """The scale of the guidances, or the network calls; NaN where there is none."""
    settings: SamplingConfig


@dataclass(frozen=True)
class DataPoint:
    """One point: its figures with their intervals, by name."""

    line: str
    value: float
    figures: dict[str, Estimate]
    calls: float
    """Evaluations of a U-Net for a picture; NaN where the pictures were there already."""
    seconds: float
    """For a picture, likewise."""

    @property
    def name(self) -> str:
        return self.line + ("" if math.isnan(self.value) else f" {self.value:g}")


@dataclass(frozen=True, eq=False)
class DataJudge:
    """Real pictures whose features are extracted once, and the requests for drawn ones."""

    sets: PictureSet
    features: Features
    cache: FeatureCache
    data: Extracted
    requests: Sequence[ImageRequest]
    batch_size: int = 32
    resamples: int = 50
    seed: int = 0

    @classmethod
    def of(
        cls, pipe: Pipeline, data: PictureSet, features: Features, cache: FeatureCache, count: int, seed: int
    ) -> DataJudge:
        """N = count pictures of each point, of the captions or classes of the data. InputError where it has none."""
        requests = requests_of(pipe, data, count, seed)
        return cls(data, features, cache, extract(data, features, cache), requests, seed=seed)

    def measure(self, pipe: Pipeline, setting: Setting, folder: Path) -> tuple[DataPoint, DrawnPictures]:
        """Draw one point into a folder, as far as it is not there, and compare it with the data."""
        before = len(list(folder.glob("*.png"))) if folder.is_dir() else 0
        start = time.perf_counter()
        with counted(pipe, setting.settings) as count:
            drawn = draw_into(folder, pipe, self.requests, setting.settings, self.batch_size)
        new = len(self.requests) - before
        whole = new == len(self.requests)  # else the time is that of a part
        calls, seconds = count[0] / new if whole else math.nan, time.perf_counter() - start
        found = extract(drawn, self.features, self.cache, self.batch_size)
        result = compare(
            Sets(drawn, self.sets), self.features, found, self.data, None, self.resamples, self.seed
        )
        figures = {one.name: one.generated for one in result.figures}
        each = seconds / new if whole else math.nan
        return DataPoint(setting.line, setting.value, figures, calls, each), drawn


def write_csv(path: Path, points: Sequence[DataPoint], axis: str) -> None:
    """A line for each point; each figure has a column, and two for its interval. axis: name of the points' values."""
    names = list(dict.fromkeys(name for point in points for name in point.figures))
    text = io.StringIO()
    writer = csv.writer(text)
    columns = [column for name in names for column in (name, f"{name}_low", f"{name}_high")]
    writer.writerow(["line", axis, *columns, "calls", "seconds"])
    for point in points:
        found = [point.figures.get(name) for name in names]
        cells = [
            value
            for one in found
            for value in ((None,) * 3 if one is None else (one.value, one.low, one.high))
        ]
        writer.writerow([point.line, *map(_cell, [point.value, *cells, point.calls, point.seconds])])
    write_text(path, text.getvalue())


def _cell(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.5g}"


def words(point: DataPoint) -> str:
    """One line."""
    found = [
        f"{name.replace('_', ' ')} {point.figures[name].value:.3f}" for name in SHORT if name in point.figures
    ]
    cost = (
        ""
        if math.isnan(point.calls)
        else f"; {point.calls:.0f} network calls, {point.seconds:.2f} s a picture"
    )
    return f"{point.name}: {', '.join(found)}{cost}"


def plot(path: Path, points: Sequence[DataPoint], title: str, axis: str) -> None:
    """Precision against recall, and the Fréchet distance against the CLIP score, or without one against the values.

    A line for each of the sweep, with the points' values.
    """
    sheet = figure(11.0, 5.0)
    left, right = sheet.subplots(1, 2)
    scored = all("clip_score" in point.figures for point in points)
    for line in dict.fromkeys(point.line for point in points):
        of_line = [point for point in points if point.line == line]
        for axes, x, y in (
            (left, "recall", "precision"),
            (right, "clip_score" if scored else None, "frechet_distance"),
        ):
            xs = [point.value if x is None else _of(point, x) for point in of_line]
            ys = [_of(point, y) for point in of_line]
            axes.plot(xs, ys, marker="o", label=line)
            for at, point in zip(zip(xs, ys, strict=True), of_line, strict=True):
                if not any(map(math.isnan, (*at, point.value))):
                    axes.annotate(
                        f"{point.value:g}", at, xytext=(4, 4), textcoords="offset points", fontsize=8
                    )
    left.set_xlabel("recall (diversity)")
    left.set_ylabel("precision (fidelity)")
    right.set_xlabel("CLIP score" if scored else axis)
    right.set_ylabel("Fréchet distance")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    sheet.suptitle(title)
    with atomic_path(path) as temporary:
        sheet.savefig(temporary, format="png")


def _of(point: DataPoint, name: str) -> float:
    return point.figures[name].value if name in point.figures else math.nan
