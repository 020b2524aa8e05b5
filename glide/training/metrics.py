"""What a run writes down about itself: a line of JSON every so often, read back when it goes on."""

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
    """A mean of numbers that come one after the other; None of none."""

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total, self.count = total, count

    def add(self, value: float) -> None:
        self.total, self.count = self.total + value, self.count + 1

    @property
    def value(self) -> float | None:
        return self.total / self.count if self.count else None


class Meters:
    """Means over the steps since the last line, the loss by quarter of the timesteps, rates."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.means: dict[str, Mean] = {}
        self.quarters = [Mean() for _ in range(4)]
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
        """Take up what `state` gave; of anything else nothing, as only the next line depends on it."""
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
        """The entry after `step` steps; begins anew."""
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
