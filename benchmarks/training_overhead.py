"""The share of a training step outside the network's forward and backward pass and the optimizer.

python benchmarks/training_overhead.py --preset shapes-64 --batch-size 64 --steps 30

What is left: waiting for data, noise and timesteps, tokens, the loss, averages, the log. Checkpoints and pictures are
measured apart, as how often they come is a choice.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from glide.networks.model import Model
from glide.training.config import OptimConfig, TrainConfig
from glide.training.optim import Optimizer
from glide.training.run import Run
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType, find_dtype
from glide.utils.hardware import wait

WARM = 5  # steps that are not measured


@dataclass(frozen=True)
class Overhead:
    """The flags."""

    preset: str = "shapes-64"
    data: str = "shapes"
    batch_size: int = 64
    steps: int = 30
    dtype: DType = AUTO
    muon_lr: float = 0.01
    """0 for AdamW alone."""
    device: str | None = None


class Clock:
    """Seconds by the part of a step that took them."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self.device = torch.device("cpu")

    def timed(self, name: str, f: Callable[..., Any]) -> Callable[..., Any]:
        """f, its time added to that of `name`."""

        def call(*args: Any, **kwargs: Any) -> Any:
            wait(self.device)
            start = time.perf_counter()
            result = f(*args, **kwargs)
            wait(self.device)
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return call


def main() -> None:
    args = parse(Overhead, __doc__)
    clock, begin = Clock(), [0.0]
    Model.forward = clock.timed("forward", Model.forward)  # type: ignore[method-assign]
    torch.Tensor.backward = clock.timed("backward", torch.Tensor.backward)  # type: ignore[method-assign]
    Optimizer.step = clock.timed("optimizer", Optimizer.step)  # type: ignore[method-assign]
    after = Run.after_step

    def measured(self: Run[Any], done: int, *rest: Any) -> None:
        clock.device = self.stepper.processes.device
        self.config = replace(self.config, save_every=10**9, sample_every=10**9)
        if done <= args.steps + WARM:
            after(self, done, *rest)
        wait(clock.device)
        if done == WARM:
            clock.spent.clear()
            begin[0] = time.perf_counter()
        if done == args.steps + WARM:
            report(args, clock.device, clock.spent, time.perf_counter() - begin[0])

    Run.measure = lambda *args: None  # type: ignore[method-assign]  # once a run: no part of a step
    Run.after_step = measured  # type: ignore[method-assign]
    folder = Path(tempfile.mkdtemp())
    train = TrainConfig(
        steps=args.steps + WARM + 1,  # the last step also writes a checkpoint
        batch_size=args.batch_size,
        optim=OptimConfig(muon_lr=args.muon_lr),
        dtype=args.dtype,
        log_every=10,
    )
    try:
        train_base(
            TrainBase(
                out=folder / "run",
                data=args.data,
                preset=args.preset,
                train=train,
                device=args.device,
                validation_batches=0,
            )
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def report(args: Overhead, device: torch.device, spent: dict[str, float], total: float) -> None:
    network = sum(spent.values())
    dtype = find_dtype(args.dtype, device)
    print(f"{args.preset}, batch {args.batch_size}, {dtype}, {torch.get_num_threads()} threads")
    for name, seconds in {**spent, "all else": total - network, "a step": total}.items():
        print(f"{name:10} {1000 * seconds / args.steps:9.1f} ms {seconds / total:7.1%}")
    print(f"overhead {1 - network / total:.2%}")


if __name__ == "__main__":
    run(main)
