"""Steps of several networks in turn, one step of each in a round: what else the machine does then meets all alike.

Each network is in a process of its own, so that its peak of memory is its own, too.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.measure.machine import timed
from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Found, Measured, Note
from glide.utils.errors import InputError

WARM_UP = 1  # steps besides the first
ON_GPU = 5  # timed steps of a turn: it waits for the GPU at its end, and not after each

Turns = Generator[float, None, Measured]
"""Yields 0.0 once the network is loaded and warm, then the seconds of a step in each turn; returns the result."""


@dataclass(frozen=True)
class Job:
    """One measurement: function(plan, *args), and what it is called when it fails."""

    name: str
    function: Callable[..., Any]
    args: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Race:
    """Measurements that take turns: their functions are `Turns`."""

    jobs: tuple[Job, ...]


def steps_needed(plan: Plan, device: torch.device) -> int:
    """Steps of a loop from which `turns` takes its own."""
    return WARM_UP + 1 + plan.repeats * (_each(device) + _again(device))


def turns(
    plan: Plan, steps: Iterator[object], device: torch.device
) -> Generator[float, None, tuple[float, ...]]:
    """Yields as `Turns`; returns the seconds of a step in every turn. steps: a loop that yields after each step."""
    for _ in range(WARM_UP + 1):
        next(steps)
    _leave_memory(device)
    yield 0.0
    found: list[float] = []

    def take(count: int) -> None:
        for _ in range(count):
            next(steps)

    for _ in range(plan.repeats):
        take(_again(device))
        found.append(timed(lambda: take(_each(device)), device) / _each(device))
        _leave_memory(device)
        yield found[-1]
    return tuple(found)


def alone(plan: Plan, function: Callable[..., Turns], *args: Any) -> list[Found]:
    """The result of one that has all turns to itself."""
    own = function(plan, *args)
    while True:
        try:
            next(own)
        except StopIteration as end:
            return [end.value]


class Worker:
    """A process that holds one network between its turns."""

    def __init__(self, job: Job, plan: Plan) -> None:
        self.name = job.name
        self.pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
        self.begun = self.pool.submit(_open, plan, job)

    def turn(self) -> float | Measured:
        """Take a turn: the seconds of a step, or the result after the last. Raises what the measurement raises."""
        self.begun.result()
        return self.pool.submit(_next).result()

    def close(self) -> None:
        self.pool.shutdown()


def in_turn(plan: Plan, race: Race, worker: Callable[[Job, Plan], Any] = Worker) -> list[Found]:
    """The results in the order of the jobs; of one that fails, a note, and the others go on."""
    running: list[Any] = []
    results: dict[str, Found] = {}

    def take(workers: Sequence[Any]) -> list[Any]:
        left = []
        for one in workers:
            try:
                got = one.turn()
            except InputError:
                raise
            except Exception as error:  # of whatever kind: the others can still be measured
                said = " ".join(str(error).split())[:300]
                got = Note(f"{one.name}: failed, {type(error).__name__}: {said}")
            if isinstance(got, float):
                left.append(one)
            else:
                results[one.name] = got
                one.close()
        return left

    try:
        for job in race.jobs:  # one after the other: each loads its network alone
            running.append(one := worker(job, plan))
            if not take([one]):
                running.pop()
        while running:
            running = take(running)
    finally:
        for one in running:
            one.close()
    return [results[job.name] for job in race.jobs if job.name in results]


def _each(device: torch.device) -> int:
    return ON_GPU if device.type == "cuda" else 1


def _again(device: torch.device) -> int:
    """Steps before those of a turn, in which memory of a GPU is allocated again."""
    return 1 if device.type == "cuda" else 0


def _leave_memory(device: torch.device) -> None:
    """Give back what was kept for the next step: the others need it, on a GPU that all of them share."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


_held: list[Turns] = []  # of a worker's process: its network


def _open(plan: Plan, job: Job) -> None:
    _held.append(job.function(plan, *job.args))


def _next() -> float | Measured:
    try:
        return next(_held[0])
    except StopIteration as end:
        result: Measured = end.value
        return result
