"""Training metrics: averaged over steps, logged as lines of JSON, read again when a run is resumed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from glide.utils.atomic_write import atomic_path
from glide.utils.errors import warn
from glide.utils.json_files import read_lines


class Mean:
    """A running mean; None without numbers."""

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total, self.count = total, count

    def add(self, value: float) -> None:
        self.total, self.count = self.total + value, self.count + 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Meters:
    """Means over the steps since the last line of the log, the loss by quarter of the timesteps, and speed."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.means: dict[str, Mean] = {}
        self.quarters = [Mean() for _ in range(4)]
        self.skipped = 0
        self.restart_clock()

    def restart_clock(self) -> None:
        """Begin to measure speed: the time since the last line, spent on pictures for example, was no training."""
        self.clock, self.clocked = time.perf_counter(), 0

    def add(self, terms: Mapping[str, Tensor], t: Tensor, steps: int, norm: float, good: bool) -> None:
        """Add a step: terms [M], their timesteps t [M] of `steps`. A skipped step is only counted."""
        self.clocked += 1
        if not good:
            self.skipped += 1
            return
        for name, values in terms.items():
            self.means.setdefault(name, Mean()).add(values.mean().item())
        for quarter, value in zip((4 * t // steps).tolist(), terms["loss"].tolist(), strict=True):
            self.quarters[quarter].add(value)
        self.means.setdefault("gradient_norm", Mean()).add(norm)

    def state(self) -> dict[str, Any]:
        """The sums since the last line, JSON-able, so that a resumed run writes the same next line."""
        means = {name: [mean.total, mean.count] for name, mean in self.means.items()}
        quarters = [[mean.total, mean.count] for mean in self.quarters]
        finite = all(math.isfinite(total) for total, _ in [*means.values(), *quarters])
        return {"means": means, "quarters": quarters, "skipped": self.skipped} if finite else {}

    def restore(self, state: Any) -> None:
        """Restore what `state` returned. Ignore anything else: only the next line depends on it."""
        self.reset()
        try:
            means = {str(name): Mean(float(total), int(n)) for name, (total, n) in state["means"].items()}
            quarters = [Mean(float(total), int(n)) for total, n in state["quarters"]]
            skipped = int(state["skipped"])
        except (TypeError, ValueError, LookupError, AttributeError):
            return
        if len(quarters) == len(self.quarters):
            self.means, self.quarters, self.skipped = means, quarters, skipped

    def line(self, step: int, rate: float, batch_size: int) -> dict[str, Any]:
        """The log entry after `step` steps; resets the means."""
        seconds = time.perf_counter() - self.clock
        line: dict[str, Any] = {"step": step, "loss": None, "gradient_norm": None}
        line |= {name: mean.value for name, mean in self.means.items()}
        line["loss_quarters"] = [mean.value for mean in self.quarters]
        line["rate"] = rate
        line["images_per_second"] = round(self.clocked * batch_size / max(seconds, 1e-9), 1)
        if self.skipped:
            line["skipped"] = self.skipped
        self.reset()
        return line


class LogFile:
    """`log.jsonl` of a run. If it cannot be written, a warning is raised and training continues."""

    def __init__(self, path: Path, start: int) -> None:
        """start: the step from which the run continues; lines of later steps are removed, as these are done again."""
        self.path = path
        kept = [line for line in read_log(path) if line["step"] <= start] if start else []
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))

    def add(self, line: Mapping[str, Any]) -> None:
        try:
            with self.path.open("a") as f:
                f.write(json.dumps(line) + "\n")
        except OSError as error:
            warn(f"cannot write {self.path} ({error.strerror}): the line is lost", stacklevel=2)


def read_log(path: Path) -> list[dict[str, Any]]:
    """The entries of a run's file of JSON lines, one for each logged step; truncated lines are left out."""
    return read_lines(path, step=int)


def last_line(path: Path) -> dict[str, Any] | None:
    """The last entry of a run's `log.jsonl`, for a model's training record, or None."""
    lines = read_log(path)
    return lines[-1] if lines else None
