"""fit(): one training loop for every model here.

A step's randomness (timesteps, noise, dropout) is a pure function of (seed, step), and so is its batch (`glide.data`).
So a run resumed from a checkpoint is the run that was never stopped, bit for bit; and as both are drawn row by row, a
run over several processes is the run of one, to rounding.
"""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import torch
import tyro
from torch import nn
from tqdm import tqdm

from glide.changes import Settings, changes, jsonable
from glide.checkpoints import Checkpoints, check_run_folder, read_manifest
from glide.data import Batch
from glide.errors import CannotWrite, InputError
from glide.losses import TimestepSampler
from glide.meters import LogFile, Meters, last_line
from glide.optim import OptimConfig
from glide.precision import check_dtype
from glide.processes import Processes, others_lost
from glide.signals import Signals, Stopped
from glide.stepper import Outcome, Stepper, Task
from glide.weights import write_files

__all__ = ["Settings", "Task", "TrainConfig", "check_run_folder", "fit", "jsonable", "last_line"]

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
    shard: bool = False
    """(several processes) Each keeps a part of every weight (FSDP2), for models that do not fit; without, each has all
    of them (DDP)."""
    optim: Annotated[OptimConfig, tyro.conf.arg(name="")] = field(default_factory=OptimConfig)
    ema: tuple[float, ...] = (0.999,)
    """Decays of the weight averages; the first is the model that is saved."""
    dtype: str = "bfloat16"
    """Autocast of the network: bfloat16, float16 (with loss scaling), or float32 for none."""
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

    def check(self) -> None:
        """InputError for numbers that no run can have."""
        check_dtype(self.dtype)
        for name in (
            "steps",
            "batch_size",
            "accumulate",
            "log_every",
            "sample_every",
            "save_every",
            "keep",
            "max_skipped",
        ):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"--{name.replace('_', '-')} {value}: expected at least 1.")
        if not self.ema or not all(0 <= decay < 1 for decay in self.ema):
            raise InputError(f"--ema {' '.join(map(str, self.ema))}: expected decays from 0 to below 1.")


def fit(
    model: M,
    task: Task[M],
    batches: Callable[[int], Iterator[Batch]],
    timesteps: TimestepSampler,
    config: TrainConfig,
    out: Path,
    *,
    resume: bool = False,
    save: Callable[[M, Path, int], None],
    sample: Callable[[M, Path], None] | None = None,
    processes: Processes | None = None,
    settings: Settings | None = None,
) -> M:
    """Train `model` in place for `config.steps` steps; returns it with the first average's weights.

    batches(step) iterates over this process's rows of the batches from that step on (`Processes.batches`). `out`
    receives `log.jsonl`, `checkpoints/`, `samples/` and, by `save(model, out, step)` with the averaged weights, the
    model folder itself. settings: the run's flags, which are compared with those it was begun with when it goes on.
    A step whose loss or gradient is not finite is skipped; InputError after `config.max_skipped` in a row (the last
    good checkpoint is kept and named). Stopped (SystemExit) after SIGTERM or Ctrl-C, once a checkpoint is written.
    """
    config.check()
    processes = processes or Processes(device=next(model.parameters()).device)
    if not processes.main:
        warnings.simplefilter("ignore")  # the main process says it
    stepper = Stepper(model, task, timesteps, config, processes)
    run = _Run(stepper, config, out, save, sample, settings or Settings())
    with others_lost(processes):
        start = run.begin(resume)
        with Signals() as signals, closing(batches(start)) as stream:
            bar = tqdm(
                stream,
                total=config.steps,
                initial=start,
                desc=out.name,
                unit="step",
                dynamic_ncols=True,
                disable=not processes.main,
            )
            with bar:
                for step, batch in enumerate(bar, start) if start < config.steps else ():
                    outcome = stepper.step(step, batch, stop=bool(signals.caught))
                    run.after(step + 1, outcome, bar, signals.caught)
                    if step + 1 >= config.steps:
                        break
        processes.wait()
    if processes.main:
        tqdm.write(f"trained to step {config.steps}; the model is in {out}")
    return stepper.weights.finished()


class _Run(Generic[M]):
    """What happens between the steps: the log, checkpoints, the model's folder, pictures; and the end."""

    def __init__(
        self,
        stepper: Stepper[M],
        config: TrainConfig,
        out: Path,
        save: Callable[[M, Path, int], None],
        sample: Callable[[M, Path], None] | None,
        settings: Settings,
    ) -> None:
        self.stepper, self.config, self.out = stepper, config, out
        self.save, self.sample, self.settings = save, sample, settings
        self.main = stepper.processes.main
        self.kept = Checkpoints(out / "checkpoints", config.keep, config.keep_every)
        self.meters = Meters()
        self.due = False  # a checkpoint that was put off

    def begin(self, resume: bool) -> int:
        """Take up the newest good checkpoint, or write the folder of a new run; returns the step to begin with."""
        start = self._resume() if resume else 0
        if self.main:
            if not resume:
                with self._averaged() as model:
                    assert model is not None
                    self.save(model, self.out, 0)
            self.log = LogFile(self.out / "log.jsonl", start)
        elif not resume:
            with self._averaged():
                pass
        self.meters.reset()
        return start

    def _averaged(self) -> Any:
        return self.stepper.weights.averaged()

    def _resume(self) -> int:
        processes = self.stepper.processes
        newest = self.kept.newest_good() if self.main else None
        step = processes.agree(int(newest.name.partition("-")[2]) if newest is not None else -1)
        if step < 0:
            raise InputError(
                f"--resume: no checkpoint in {self.kept.folder} that is whole; start a new run, in another --out."
            )
        path = self.kept.path(step)
        said = changes(read_manifest(path).get("settings", {}), self.settings)
        if self.main:
            for line in said:
                tqdm.write(f"changed: {line}")
        return self.stepper.weights.load(path)

    def after(self, done: int, outcome: Outcome, bar: Any, caught: int) -> None:
        """After the step that made it `done` steps."""
        config, stepper = self.config, self.stepper
        last = done == config.steps
        self.meters.add(outcome.terms, outcome.t, stepper.timesteps.steps, outcome.norm, outcome.good)
        if done % config.log_every == 0 or last:
            self._write_line(done, bar)
        if stepper.bad_in_a_row >= config.max_skipped:
            self._diverged(done - 1, outcome)
        self.due |= done % config.save_every == 0 or last or outcome.stop
        # what made a loss that is not finite may be in the weights: no checkpoint until one is again
        saving = self.due and (stepper.bad_in_a_row == 0 or last)
        if saving:
            self._checkpoint(done, must=last)
        if self.sample is not None and (done % config.sample_every == 0 or last) and not outcome.stop:
            with self._averaged() as model:
                if model is not None:
                    self._attempt(partial(self.sample, model, self.out / "samples" / f"{done:07d}.png"))
            self.meters.restart_clock()
        if saving:
            with self._averaged() as model:
                if model is not None:
                    self._attempt(partial(self.save, model, self.out, done), must=last)
            self.due = False
        if outcome.stop and not last:
            self._stop(done, caught)

    def _write_line(self, done: int, bar: Any) -> None:
        config = self.config
        line = self.meters.line(done, config.optim.rate(done - 1, config.steps), config.batch_size)
        if self.main:
            self.log.add(line)
            shown = "none" if line["loss"] is None else f"{line['loss']:.4f}"
            bar.set_postfix(loss=shown, img_s=f"{line['images_per_second']:.0f}")

    def _checkpoint(self, done: int, must: bool) -> None:
        tensors, state = self.stepper.weights.gathered()
        if not self.main:
            return
        about = {
            "settings": dict(self.settings.values),
            "processes": self.stepper.processes.world,
            "torch": torch.__version__,
        }
        files = partial(write_files, step=done, tensors=tensors, state=state)
        self._attempt(partial(self.kept.write, done, files, about), must)

    def _attempt(self, write: Callable[[], None], must: bool = False) -> None:
        """Write; what cannot be written costs a warning, and is tried again when it is due next. must: an error."""
        try:
            write()
        except (CannotWrite, OSError) as error:
            if must:
                raise
            warnings.warn(f"{error}; the last checkpoint is {self._last()}; training goes on", stacklevel=2)

    def _last(self) -> str:
        steps = self.kept.steps()
        return str(self.kept.path(steps[-1])) if steps else "none"

    def _diverged(self, step: int, outcome: Outcome) -> None:
        """End a run whose loss is no longer finite."""
        stepper = self.stepper
        stepper.processes.wait()
        good = self.kept.newest_to(stepper.last_good)
        if self.main:
            self.kept.set_aside(stepper.last_good)
        loss = outcome.terms["loss"].mean().item()
        way = (
            "There is no good checkpoint: begin anew,"
            if good is None
            else f"The last good checkpoint is {good}: go on from it by --resume,"
        )
        raise InputError(
            f"the loss is {loss} and its gradient {outcome.norm} at step {step}, the last of {stepper.bad_in_a_row} in "
            f"a row that are not finite; training stopped. {way} with a lower learning rate or float32."
        )

    def _stop(self, done: int, caught: int) -> None:
        """End a run that was asked to."""
        number = caught or signal.SIGTERM  # another process was asked, and will say so
        self.stepper.processes.wait()
        if self.main:
            name = signal.Signals(number).name
            tqdm.write(
                f"stopped by {name} after step {done}; the newest checkpoint is {self._last()}: go on with --resume",
                file=sys.stderr,
            )
        raise Stopped(number)
