"""What a run writes down about itself: a line of JSON every so often, read back when it goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glide.atomic import atomic_path
from glide.errors import warn
from glide.json_files import read_lines


class Meters:
    """Means over the steps since the last line, the loss by quarter of the timesteps, rates."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.terms: dict[str, list[float]] = {}
        self.quarters: list[list[float]] = [[], [], [], []]
        self.norms: list[float] = []
        self.skipped = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """What has passed since, drawing pictures say, is no training."""
        self.clock, self.clocked = time.perf_counter(), 0

    def add(self, terms: Mapping[str, Tensor], t: Tensor, steps: int, norm: float, good: bool) -> None:
        """One step: terms [M], their timesteps t [M] of `steps`. Of one that was skipped only the fact is kept."""
        self.clocked += 1
        if not good:
            self.skipped += 1
            return
        for k, v in terms.items():
            self.terms.setdefault(k, []).append(v.mean().item())
        for quarter, value in zip((4 * t // steps).tolist(), terms["loss"].tolist(), strict=True):
            self.quarters[quarter].append(value)
        self.norms.append(norm)

    def line(self, step: int, rate: float, batch_size: int) -> dict[str, Any]:
        """The entry after `step` steps; begins anew."""
        seconds = time.perf_counter() - self.clock
        line: dict[str, Any] = {"step": step, "loss": None, "gradient_norm": None}
        line |= {k: sum(v) / len(v) for k, v in self.terms.items()}
        line["loss_quarters"] = [sum(q) / len(q) if q else None for q in self.quarters]
        if self.norms:
            line["gradient_norm"] = sum(self.norms) / len(self.norms)
        line["rate"] = rate
        line["images_per_second"] = round(self.clocked * batch_size / max(seconds, 1e-9), 1)
        if self.skipped:
            line["skipped"] = self.skipped
        self.reset()
        return line


class LogFile:
    """`log.jsonl` of a run. A file that cannot be written costs a warning, not the run."""

    def __init__(self, path: Path, start: int) -> None:
        """start: the step the run goes on from; lines of later steps go, as these will be done again."""
        self.path = path
        kept = [line for line in logged(path) if line["step"] <= start] if start else []
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as error:
            warn(f"cannot write {self.path} ({error.strerror}): the line is lost", stacklevel=2)


def logged(path: Path) -> list[dict[str, Any]]:
    """The entries of a run's file of JSON lines, each of a step; one that was cut short is left out."""
    return read_lines(path, step=int)


def last_line(path: Path) -> dict[str, Any] | None:
    """The last entry of a run's `log.jsonl`, for a model's training record; None where there is none yet."""
    lines = logged(path)
    return lines[-1] if lines else None
