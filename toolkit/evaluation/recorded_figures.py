"""Figures that were measured of a model, read from what trainings and evaluations wrote, for its model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glide.checkpoints.shared_record import without_places
from glide.utils.errors import InputError
from glide.utils.json_files import read_lines, read_table
from toolkit.pipelines.model_card import Figure

OF_AUTO = "report.json"
OF_TRAINING = "evaluation.jsonl"
LABELS = {
    "captions_right": "captions drawn recognisably",
    "captions_right_new": "the same of captions of held-out pictures",
    "facts_right": "facts of captions drawn right",
    "held_out_distance": "kernel distance to held-out pictures",
    "training_distance": "kernel distance to the training pictures",
    "memorised": "nearer to a training picture than 95% of other real pictures are, in features",
    "memorised_new": "the same, drawn of held-out captions or classes",
    "memorised_colours": "nearer to a training picture than 95% of other real pictures are, by colours",
    "memorised_colours_new": "the same by colours, drawn of held-out captions or classes",
}
SHARES = ("captions_right", "facts_right", "memorised")
"""Beginnings of the names of figures that are shares."""


@dataclass(frozen=True)
class Recorded:
    """The figures of a model."""

    figures: tuple[Figure, ...] = ()
    copies: tuple[Figure, ...] = ()
    """Shares of drawn pictures that are nearer to a training picture than new ones are."""
    judged: str = ""
    """Numbers of pictures and features, in words."""
    pictures: int | None = None
    """Of the training."""


def recorded_figures(run: Path, file: Path | None = None) -> Recorded:
    """The figures of the model in a run's folder, or those in a file.

    file: evaluation.json of evaluate_images, report.json of train_auto, or evaluation.jsonl of a training. Without it
    the newest of the run itself; no figures where it has none. InputError for a file that is none of these.
    """
    if file is None:
        places = [run / OF_AUTO, run.parent / OF_AUTO, run / OF_TRAINING]
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            return Recorded()
    try:
        if file.suffix == ".jsonl":
            return _of_training(file)
        table = read_table(file)
        return _of_evaluation(table) if "features" in table else _of_report(table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"got {file} without the figures that are expected there ({error}), expected {OF_AUTO}, {OF_TRAINING} or "
            "the evaluation.json of evaluate_images: give such a file, or leave it out"
        ) from error


def _of_report(table: Mapping[str, Any]) -> Recorded:
    """Of train_auto."""
    drawn = int(table["drawn"])
    return Recorded(
        *_split({name: _figure(name, one) for name, one in table["figures"].items()}),
        judged=f"Of {drawn} pictures drawn of training captions or classes"
        + (f", {table['drawn_new']} of held-out ones." if table.get("drawn_new") else "."),
        pictures=int(table["pictures"]),
    )


def _of_training(file: Path) -> Recorded:
    """Of the last line of a training's own measurements."""
    lines = read_lines(file, step=int)
    if not lines:
        return Recorded()
    last = lines[-1]
    names = [name for name in last if f"{name}_low" in last and f"{name}_high" in last]
    figures = {
        name: _figure(name, {"value": last[name], "low": last[f"{name}_low"], "high": last[f"{name}_high"]})
        for name in names
    }
    return Recorded(*_split(figures), judged=f"Measured during the training, at step {last['step']:,}.")


def _of_evaluation(table: Mapping[str, Any]) -> Recorded:
    """Of evaluate_images."""
    figures, copies, names = [], [], []
    several = len(table["features"]) > 1
    for one in table["features"]:
        behind = f" ({without_places(str(one['name']))})" if several else ""
        names.append(without_places(str(one["name"])))  # it may be that of a file
        for name, figure in one["figures"].items():
            figures.append(_figure(name, figure, f"{figure.get('label') or name}{behind}"))
        if (found := one.get("memorisation")) is not None:
            copies.append(_figure("memorised", found["near"], f"{LABELS['memorised']}{behind}"))
    drawn, real = table["generated"]["pictures"], (table.get("data") or {}).get("pictures")
    against = f" against {real} real ones" if real else ""
    judged = f"Of {drawn} drawn pictures{against}, in the features of {' and '.join(names)}."
    return Recorded(tuple(figures), tuple(copies), judged)


def _split(figures: Mapping[str, Figure]) -> tuple[tuple[Figure, ...], tuple[Figure, ...]]:
    """Figures of quality, and those of memory."""
    of_memory = [name for name in figures if name.startswith("memorised")]
    return (
        tuple(one for name, one in figures.items() if name not in of_memory),
        tuple(figures[name] for name in of_memory),
    )


def _figure(name: str, values: Mapping[str, Any], label: str | None = None) -> Figure:
    low, high = values.get("low"), values.get("high")
    return Figure(
        label or LABELS.get(name, name.replace("_", " ")),
        float(values["value"]),
        None if low is None else float(low),
        None if high is None else float(high),
        is_share=name.startswith(SHARES),
    )


def training_seconds(log: Sequence[Mapping[str, Any]], batch_size: int | None) -> float | None:
    """The seconds of a training by its log: pictures between two lines over the pictures a second of the later one.

    None where the log does not say.
    """
    seconds, before = 0.0, 0
    for line in log:
        step, speed = line.get("step"), line.get("images_per_second")
        if not isinstance(step, int) or batch_size is None:
            return None
        if isinstance(speed, int | float) and speed > 0:
            seconds += (step - before) * batch_size / speed
        before = step
    return seconds or None
