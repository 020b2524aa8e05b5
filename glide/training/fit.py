"""fit(): one training loop for every model here.

A step's randomness (timesteps, noise, dropout) is a pure function of (seed, step), and so is its batch
(`glide.data.datasets`). So a run resumed from a checkpoint is the run that was never stopped, bit for bit; and as both
are drawn row by row, a run over several processes is the run of one, to rounding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from torch import nn

from glide.data.datasets import Batch
from glide.diffusion.losses import TimestepSampler
from glide.training.checkpoints import read_manifest
from glide.training.distributed import Processes, others_lost
from glide.training.dry_run import rehearse
from glide.training.metrics import last_line
from glide.training.optim import OptimConfig
from glide.training.resume import RunFlags, jsonable
from glide.training.run import MEASURED_AFTER, Run
from glide.training.signals import Signals
from glide.training.step import Stepper, Task
from glide.training.trackers import TrackerName
from glide.utils.dtype import AUTO, DTYPES, DType, check_dtype, find_dtype
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers

__all__ = ["RunFlags", "Task", "TrainConfig", "fit", "jsonable", "last_line"]

M = TypeVar("M", bound=nn.Module)


@dataclass(frozen=True)
class TrainConfig:
    """The run, besides the model, the data and the loss."""

    steps: int = 100_000
    batch_size: int = 64
    """Pictures of a step, over all processes together."""
    accumulate: int = 1
    """Parts each process cuts its share of a batch into, one after the other, to save memory."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    compile: bool = False
    """Compile the networks first (torch.compile): a minute or two, then a step takes a quarter to a third less time."""
    shard: bool = False
    """(several processes) Each keeps a part of every weight (FSDP2), for models that do not fit; without, each has all
    of them (DDP)."""
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    ema: tuple[float, ...] = (0.999,)
    """Decays of the weight averages; the first is the model that is saved."""
    ema_snapshots: tuple[float, ...] = ()
    """Relative widths of power-function averages whose snapshots are kept in averages/, to choose the length of an
    average after training by scripts/posthoc_ema.py (post-hoc EMA, 2312.02696, which keeps 0.05 0.1)."""
    snapshot_every: int = 1000
    """(ema-snapshots) Steps between two; some tens in all are enough."""
    dtype: DType = AUTO
    """float16 scales the loss; weights are float32 always."""
    seed: int = 0
    log_every: int = 50
    sample_every: int = 1000
    save_every: int = 1000
    keep: int = 2
    """Checkpoints kept, the newest."""
    keep_every: int = 0
    """Over 0: checkpoints of multiples of so many steps are kept for good."""
    max_skipped: int = 10
    """Steps in a row that may be skipped because their loss or gradient is not finite; then the run stops."""
    track: tuple[TrackerName, ...] = ()
    """Besides log.jsonl: tensorboard, wandb, trackio (each an extra)."""
    dry_run: bool = False
    """Build everything, do two steps, say what the run would take in memory and time, and write nothing."""

    def check(self) -> None:
        """InputError for numbers that no run can have."""
        check_dtype(self.dtype)
        if self.compile and self.shard:
            raise InputError("got both --compile and --shard, expected one or the other: leave one out.")
        check_numbers(self)
        if not self.ema:
            raise InputError("got --ema without a decay, expected at least one: leave it out for 0.999")

    def settled(self, processes: Processes, checkpoint: Path | None = None, half: bool = True) -> TrainConfig:
        """The same with a type in place of "auto", the same one on all processes, which all call it.

        It is that of the run that goes on from `checkpoint`, or else what is fast on the main process's device.
        half: False where float16 cannot be.
        """
        dtype = self.dtype
        if processes.main:
            before = dtype_of_run(checkpoint) if checkpoint is not None and dtype == AUTO else None
            dtype = str(find_dtype(before or dtype, processes.device)).removeprefix("torch.")
            if dtype == "float16" and self.dtype == AUTO and not half:
                dtype = "float32"
        return replace(self, dtype=DTYPES[processes.agree(DTYPES.index(dtype) if processes.main else 0)])


def dtype_of_run(checkpoint: Path) -> str | None:
    """The type that a run computed in, as its checkpoint says; None where it does not."""
    settings = read_manifest(checkpoint).get("settings")
    dtype = settings.get("train.dtype") if isinstance(settings, dict) else None
    return dtype if dtype in DTYPES else None


def fit(
    model: M,
    task: Task[M],
    batches: Callable[[int], Generator[Batch, None, None]],
    timesteps: TimestepSampler,
    config: TrainConfig,
    out: Path,
    *,
    resume: Path | None = None,
    save: Callable[[M, Path, int], None],
    sample: Callable[[M, Path], None] | None = None,
    validate: Callable[[M], dict[str, Any]] | None = None,
    note: Callable[[], object] | None = None,
    processes: Processes | None = None,
    settings: RunFlags | None = None,
) -> M:
    """Train `model` in place for `config.steps` steps; returns it with the first average's weights.

    batches(step) iterates over this process's rows of the batches from that step on (`Processes.batches`). `out`
    receives `log.jsonl`, `checkpoints/`, `samples/` and, by `save(model, out, step)` with the averaged weights, the
    model folder itself. validate(model) measures it, averaged, on held-out data whenever `sample` draws, for
    `validation.jsonl`. note() is called by every process with each checkpoint, to write what it alone knows. resume:
    the checkpoint to go on from (`glide.training.run_folder`). settings: the run's flags, which are compared with
    those it was begun with when it goes on. A step whose loss or gradient is not finite is skipped; InputError after
    `config.max_skipped` in a row (the last good checkpoint is kept and named). Stopped (SystemExit) after SIGTERM or
    Ctrl-C, once a checkpoint is written. Any other error after the first step leaves a checkpoint too.
    """
    config.check()
    processes = processes or Processes(device=next(model.parameters()).device)
    config = config.settled(processes, resume)
    if not processes.main:
        warnings.simplefilter("ignore")  # the main process says it
    stepper = Stepper(model, task, timesteps, config, processes)
    if config.dry_run:
        with others_lost(processes), closing(batches(0)) as stream:
            said = rehearse(stepper, stream, time.perf_counter)
        if processes.main:
            say("\n".join(said))
        return model
    run = Run(stepper, config, out, save, sample, validate, note, settings or RunFlags())
    with others_lost(processes):
        start = run.begin(resume)
        with Signals() as signals, run.rescued(), closing(batches(start)) as stream:
            bar = progress(
                islice(stream, max(config.steps - start, 0)),
                total=config.steps,
                initial=start,
                desc=out.name,
                unit="step",
                disable=not processes.main,
            )
            with bar:
                for step, batch in enumerate(bar, start):
                    if step == start + MEASURED_AFTER:
                        run.measure(step, batch)
                    outcome = stepper.step(step, batch, stop=bool(signals.caught))
                    run.after(step + 1, outcome, bar, signals)
        processes.wait()
    run.end()
    if processes.main:
        say(f"trained to step {config.steps}; the model is in {out}")
    return stepper.weights.finished()
