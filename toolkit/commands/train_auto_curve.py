"""The curve of an automatic training: which of its models is the best, and what more training would bring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from glide.checkpoints.load import load_model, read_config, save_model
from glide.training.checkpoints import Checkpoints
from glide.training.evaluation_curves import EVALUATION
from glide.training.metrics import read_log
from glide.utils.errors import InputError

Line = Mapping[str, Any]
FEW = 24
"""Pictures of a point of the curve, below which its differences are chance."""
DISTANCES = ("held_out_distance", "training_distance")


@dataclass(frozen=True)
class Choice:
    """The model that is recommended, with sentences that say why."""

    step: int
    reasons: tuple[str, ...]


def read_curve(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's evaluation.jsonl; empty where nothing was measured."""
    path = run / EVALUATION
    return read_log(path) if path.exists() else []


def choose(lines: Sequence[Line], kept: Sequence[int], measured: int = FEW) -> Choice:
    """The last model, unless an earlier one that was kept is nearer to new pictures by more than chance.

    kept: steps of the checkpoints that are there, ascending. measured: pictures of each kind that a point of the curve
    is of.
    """
    last = kept[-1]
    by_step = {int(line["step"]): line for line in lines}
    name = next((name for name in DISTANCES if any(name in line for line in lines)), None)
    points = [(step, by_step[step]) for step in kept if step in by_step and name in by_step[step]]
    if name is None or last not in by_step or len(points) < 2:
        return Choice(last, (f"The model is that of the last step, {last}: there is no curve to choose by.",))
    of = "held-out" if name == DISTANCES[0] else "training"
    step, best = min(points, key=lambda point: float(point[1][name]))
    end = by_step[last]
    low = float(end.get(f"{name}_low", end[name]))
    if step != last and low > float(best[name]):
        reason = (
            f"The model is that of step {step}, whose distance to {of} pictures is the smallest, "
            f"{best[name]:.4g}; at the last step, {last}, it is {end[name]:.4g}, and all of its interval is above that."
        )
        return Choice(step, (reason, *_outlook(lines, name, measured)))
    reason = f"The model is that of the last step, {last}: its distance to {of} pictures is {end[name]:.4g}"
    reason += (
        "."
        if step == last
        else f", and the smallest, {best[name]:.4g} at step {step}, is within its interval."
    )
    return Choice(last, (reason, *_outlook(lines, name, measured)))


def _outlook(lines: Sequence[Line], name: str, measured: int) -> tuple[str, ...]:
    """A sentence on what more training would bring, by the last two points of the curve."""
    if measured < FEW:
        return (
            f"What more training would bring, the curve does not say: its points are of {measured} pictures, expected "
            f"{FEW} or more. Look at its pictures.",
        )
    points = [line for line in lines if name in line]
    if len(points) < 3:
        return ()
    before, end = points[-2], points[-1]
    rose = _copies(end) - _copies(before)
    fell = float(before[name]) - float(end[name])
    better = float(end.get("captions_right", 0.0)) - float(before.get("captions_right", 0.0))
    if fell <= 0 and better <= 0:
        copies = f", and the share learned by heart rose by {rose:.1%}" if rose > 0 else ""
        return (
            f"Over the last part of the training neither the distance nor the captions became better{copies}: more "
            "training would only learn these pictures by heart.",
        )
    if rose > 0 and fell <= 0:
        return (
            f"Over the last part of the training the distance did not fall any more, while the share learned by heart "
            f"rose by {rose:.1%}: more training draws these pictures better, and nothing new.",
        )
    return ("Its figures still became better at the end of the training: more hours would help.",)


def _copies(line: Line) -> float:
    """The share learned by heart, in the space that sees more of it."""
    return max(float(line.get(name, 0.0)) for name in ("memorised", "memorised_colours"))


def export(run: Path, step: int, average: float, out: Path) -> None:
    """Write the averaged model of a checkpoint as a model folder. InputError for a checkpoint that is not there."""
    checkpoint = Checkpoints(run / "checkpoints").path(step)
    if not checkpoint.is_dir():
        raise InputError(
            f"got no {checkpoint}, expected the checkpoint of step {step}: train the stage again"
        )
    model = load_model(checkpoint)
    weights = load_file(checkpoint / f"ema-{average}.safetensors")
    model.load_state_dict({**model.state_dict(), **weights})
    training = read_config(run).get("training")
    record = {**training, "step": step} if isinstance(training, dict) else {"step": step}
    save_model(out, model, record, overwrite=True)
