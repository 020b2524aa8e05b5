"""Figures of a model's pictures while it is trained: evaluation.jsonl and evaluation.png in the run's folder.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glide.data.datasets import is_generated
from glide.networks.fixed_batch import batches
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.training.metrics import read_log
from glide.utils.atomic_write import atomic_path, write_text
from glide.utils.channels import on_white
from glide.utils.errors import InputError, warn
from glide.utils.images import as_image, to_uint8
from glide.utils.plots import figure
from glide.utils.printable import say
from toolkit.evaluation.drawn_pictures import requests_of
from toolkit.evaluation.extraction import extract
from toolkit.evaluation.features import Features
from toolkit.evaluation.image_evaluation import Figure, figures
from toolkit.evaluation.picture_sets import PictureArray, PictureSet, open_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

LOG, PLOT = "evaluation.jsonl", "evaluation.png"
RESAMPLES = 50
BATCH = 32
REAL = 4
"""Real pictures for each that is drawn."""
PANELS = (("kernel_distance",), ("precision", "recall"))
"""Figures of each panel of the plot; a Fréchet distance of so few pictures is mostly its bias."""


class TrainingCurve:
    """Draws pictures of a model in training, from the same captions and noise each time, and compares them."""

    def __init__(
        self, data: str, held_out: float, features: Features, out: Path, every: int, last: int, pictures: int
    ) -> None:
        """every, last: steps at which it measures. pictures: N; four times as many of the data are compared with.
        InputError for data that cannot be opened."""
        self.features, self.out, self.every, self.last, self.pictures = features, out, every, last, pictures
        self._spec, self._share = data, held_out
        self._open(None)  # errors before the first step
        self._real: tuple[int, NDArray[np.float32]] | None = None

    def __call__(self, model: Model, step: int) -> None:
        """Measure where it is due, and add a line and a point; what cannot be measured is a warning."""
        if step % self.every and step != self.last:
            return
        try:
            found = self._measure(model)
        except InputError as error:
            warn(f"no evaluation at step {step}: {error}; training goes on")
            return
        line: dict[str, Any] = {"step": step}
        for one in found:
            e = one.generated
            line |= {one.name: e.value, f"{one.name}_low": e.low, f"{one.name}_high": e.high}
        lines = [entry for entry in read_log(self.out / LOG) if entry["step"] < step] + [line]
        write_text(self.out / LOG, "".join(json.dumps(entry) + "\n" for entry in lines))
        shown = ", ".join(f"{one.label} {one.generated}" for one in found if one.name in sum(PANELS, ()))
        say(f"step {step}: {shown}")
        _plot(self.out / PLOT, lines, self.features.name)

    def _open(self, size: int | None) -> tuple[PictureSet, PictureSet]:
        """The training pictures, and those whose captions are drawn: held-out ones, where there are any."""
        own = is_generated(self._spec) or self._share > 0
        data = open_pictures(
            self._spec,
            split="train" if own else None,
            share=self._share,
            count=REAL * self.pictures,
            size=size,
        )
        if not own:
            return data, data
        held = open_pictures(self._spec, split="held_out", share=self._share, count=self.pictures, size=size)
        return data, held

    def _measure(self, model: Model) -> list[Figure]:
        pipe = Pipeline(copy.deepcopy(model), owned=True)  # drawing freezes its weights, and rounds them
        size = model.config.picture_size
        data, asked = self._open(size)
        if self._real is None or self._real[0] != size:
            self._real = size, extract(data, self.features, mixed=True).features
        requests = requests_of(pipe, asked, self.pictures, 0)
        usual = "cfg" if pipe.conditioner.has_null else "none"
        drawn = PictureArray("drawn", _drawn(pipe, requests, SamplingConfig(guidance=usual)))
        return figures(extract(drawn, self.features).features, self._real[1], None, self.features, RESAMPLES)


def watched(draw: Callable[..., int | None], curve: TrainingCurve | None) -> Callable[..., int | None]:
    """A function that draws progress pictures, (model, path, ...), and also measures where a curve is given."""
    if curve is None:
        return draw

    def both(model: Model, path: Path, *rest: Any) -> int | None:
        row = draw(model, path, *rest)
        curve(model, int(path.stem))
        return row

    return both


def _drawn(pipe: Pipeline, requests: Sequence[ImageRequest], settings: SamplingConfig) -> NDArray[np.uint8]:
    """Pictures uint8 [N,H,W,3]."""
    run = pipe.for_run(len(requests))
    assert run.call_size is not None
    parts: list[NDArray[np.uint8]] = []
    for start, batch in batches(requests, BATCH, run.call_size):
        for step in run.draw(batch, settings, place=start):
            last = step
        parts += [np.asarray(on_white(as_image(one))) for one in to_uint8(last.x)]
    return np.stack(parts)


def _plot(path: Path, lines: Sequence[dict[str, Any]], name: str) -> None:
    """Draw the figures by step, with their intervals; nothing where matplotlib is not installed."""
    try:
        page = figure(11.0, 4.0)
    except InputError:
        return
    for axis, names in zip(page.subplots(1, len(PANELS)), PANELS, strict=True):
        for one in names:
            points = [entry for entry in lines if entry.get(one) is not None]
            steps = [entry["step"] for entry in points]
            axis.plot(steps, [entry[one] for entry in points], marker=".", label=one.replace("_", " "))
            ends = [[_end(entry, one, end) for entry in points] for end in ("low", "high")]
            axis.fill_between(steps, *ends, alpha=0.2)
        axis.set_xlabel("step")
        axis.set_title(f"in the features of {name}")
        axis.legend()
    with atomic_path(path) as temporary:
        page.savefig(temporary, format="png")


def _end(entry: dict[str, Any], name: str, end: str) -> float:
    """An end of a figure's interval; the figure itself where it has none."""
    found = entry.get(f"{name}_{end}")
    return float(entry[name] if found is None else found)
