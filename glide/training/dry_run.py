"""--dry-run: everything is built, two steps are done, and what the run would take is said. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from glide.data.datasets import Batch
from glide.training.step import Stepper
from glide.utils.hardware import memory_in_use, wait

STEPS = 2


def rehearse(stepper: Stepper[Any], stream: Iterator[Batch], clock: Any) -> list[str]:
    """Do two steps with the first batches; returns what is to be said, line by line. clock: time.perf_counter."""
    config, processes = stepper.config, stepper.processes
    seconds = []
    outcome = None
    for step in range(STEPS):
        begin = clock()  # with the wait for its batch
        outcome = stepper.step(step, next(stream))
        wait(processes.device)
        seconds.append(clock() - begin)
    assert outcome is not None
    stored = sum(_size(tensors) for tensors in _stored(stepper))  # of float32
    total = seconds[-1] * config.steps
    return [
        f"{_parameters(stepper.weights.model) / 1e6:.2f} million weights, "
        f"{processes.world} process{'es' if processes.world > 1 else ''} on {processes.device.type}, {config.dtype}",
        f"loss {outcome.terms['loss'].mean().item():.4f}, gradient norm {outcome.norm:.4g}",
        f"memory: {memory_in_use(processes.device):.2f} GiB at most so far, of each process",
        f"a checkpoint: {stored / 2**30:.3f} GiB, of which {config.keep} are kept",
        f"step: {seconds[0]:.3f} s the first, {seconds[-1]:.3f} s the second, "
        f"{config.batch_size / seconds[-1]:.1f} pictures a second",
        f"expected in all: {_duration(total)} for {config.steps} steps, without pictures and checkpoints",
        "dry run: nothing was written",
    ]


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _stored(stepper: Stepper[Any]) -> Iterator[list[Tensor]]:
    """What a checkpoint would hold, as far as it is in this process."""
    weights = stepper.weights
    parts = stepper.processes.world if weights.sharded else 1
    for _ in range(parts):  # shares are about equal
        yield list(weights.averages.source.values())
        for average in weights.averages.weights.values():
            yield list(average.values())
        for part in weights.optimizer.parts:
            yield [v for state in part.state.values() for v in state.values() if isinstance(v, Tensor)]


def _size(tensors: list[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _duration(seconds: float) -> str:
    """3 d 4 h, 5 h 6 min, 7 min 8 s, or 9 s."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left = round(seconds)
    said: list[str] = []
    for name, size in units:
        if (count := left // size) or (name == "s" and not said):
            said.append(f"{count} {name}")
        left %= size
    return " ".join(said[:2])
