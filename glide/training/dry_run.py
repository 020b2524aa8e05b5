"""--dry-run: build everything, do two steps and report the memory and time of the run. Nothing is written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from glide.data.datasets import Batch
from glide.training.step import Stepper
from glide.utils.hardware import memory_in_use, wait
from glide.utils.printable import say

STEPS = 2


def dry_run(stepper: Stepper[Any], stream: Iterator[Batch], clock: Any) -> None:
    """Do two steps with the first batches and print the report. All processes call it. clock: time.perf_counter."""
    config, processes = stepper.config, stepper.processes
    seconds = []
    outcome = None
    for step in range(STEPS):
        begin = clock()  # includes the wait for the batch
        outcome = stepper.step(step, next(stream))
        wait(processes.device)
        seconds.append(clock() - begin)
    assert outcome is not None
    stored = sum(_size(tensors) for tensors in _checkpoint_tensors(stepper))  # of float32
    total = seconds[-1] * config.steps
    lines = [
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
    if processes.main:
        say("\n".join(lines))


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _checkpoint_tensors(stepper: Stepper[Any]) -> Iterator[list[Tensor]]:
    """The tensors of a checkpoint, as far as they are in this process."""
    weights = stepper.weights
    parts = stepper.processes.world if weights.sharded else 1
    for _ in range(parts):  # processes have about equal parts
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
    rest = round(seconds)
    parts: list[str] = []
    for name, size in units:
        if (count := rest // size) or (name == "s" and not parts):
            parts.append(f"{count} {name}")
        rest %= size
    return " ".join(parts[:2])
