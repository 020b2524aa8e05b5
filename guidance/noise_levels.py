"""Measurements of a guide at several noise levels: which levels, and their record over a training run."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glide.utils.atomic_write import atomic_path
from glide.utils.json_files import read_lines

LEVELS = "levels.jsonl"


def spread(steps: int, levels: int) -> list[int]:
    """The middles of `levels` equal parts of the timesteps 0 .. steps - 1."""
    return [int((i + 0.5) * steps / levels) for i in range(levels)]


def means(levels: Sequence[Any]) -> dict[str, float]:
    """The mean over the levels (dataclasses) of each of their figures, as far as it is there at all of them."""
    rows = [dataclasses.asdict(level) for level in levels]
    names = [name for name in rows[0] if name not in ("t", "log_snr")]
    whole = [name for name in names if all(row[name] is not None for row in rows)]
    return {name: sum(row[name] for row in rows) / len(rows) for name in whole}


def record(path: Path, step: int, levels: Sequence[Any]) -> None:
    """Add the levels (dataclasses) after `step` training steps to a file of JSON lines; of later steps, which a
    resumed run does again, the lines go."""
    lines = [line for line in read_lines(path, step=int) if line["step"] < step]
    lines += [{"step": step, **dataclasses.asdict(level)} for level in levels]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))


def newest(path: Path, step: int) -> list[dict[str, Any]]:
    """The last record that is not of a step after `step`, for a model's record of its training."""
    lines = read_lines(path, step=int)
    last = max((line["step"] for line in lines if line["step"] <= step), default=None)
    return [{k: v for k, v in line.items() if k != "step"} for line in lines if line["step"] == last]
