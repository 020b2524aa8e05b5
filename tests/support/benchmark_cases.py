"""Shared by tests: TINY, inline, of."""

from collections.abc import Callable
from typing import Any

from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Measured
from benchmarks.measure.turns import Job


def inline(f: Callable[..., Any], *args: Any) -> Any:
    """In place of a fresh process, which would import everything anew."""
    return f(*args)


class InlineWorker:
    """In place of a worker's process."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.name, self.begin = job.name, lambda: job.function(plan, *job.args)
        self.steps: Any = None

    def turn(self) -> float | Measured:
        self.steps = self.steps or self.begin()
        try:
            return next(self.steps)
        except StopIteration as end:
            return end.value

    def close(self) -> None:
        self.steps = None


TINY = Plan(
    cases=("base", "upsampler", "embedded", "cascade", "train", "picture"),
    beside=("original", "glide_text2im"),
    dtype=("float32",),
    size="tiny",
    repeats=1,
    train_batch=2,
    base_steps="2",
    upsampler_steps="2",
    batch_sizes=(1, 2),
    profile=True,
)


def of(found: list[Found], case: str, by: str) -> list[Measured]:
    return [one for one in found if isinstance(one, Measured) and (one.case, one.by) == (case, by)]
