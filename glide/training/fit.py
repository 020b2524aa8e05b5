"""fit(): one training loop for every model here.

A step's randomness (timesteps, noise, dropout) is a pure function of (seed, step), and so is its batch
(`glide.data.datasets`). So a resumed run equals the uninterrupted run, bit for bit. As both are drawn row by row, a run
over several processes equals that of one, to rounding.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from glide.data.datasets import Batch
from glide.diffusion.timestep_sampling import TimestepSampler
from glide.training.config import TrainConfig
from glide.training.distributed import Processes, lost_peers_reported
from glide.training.dry_run import dry_run
from glide.training.metrics import last_line
from glide.training.resume import RunFlags, jsonable
from glide.training.run import MEASURED_AFTER, Run
from glide.training.step import Stepper, Task
from glide.utils.progress import progress
from glide.utils.signals import Signals

__all__ = ["RunFlags", "Task", "TrainConfig", "fit", "jsonable", "last_line"]

M = TypeVar("M", bound=nn.Module)


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
    evaluate: Callable[[M], Mapping[str, Any]] | None = None,
    note: Callable[[], object] | None = None,
    processes: Processes | None = None,
    settings: RunFlags | None = None,
) -> M:
    """Train `model` in place for `config.steps` steps; returns it with the first average's weights.

    batches(step) iterates over this process's rows of the batches from that step on (`Processes.batches`). `out`
    receives `log.jsonl`, `checkpoints/`, `samples/` and, by `save(model, out, step)` with the averaged weights, the
    model folder itself. validate(model) measures the averaged model on held-out data whenever `sample` draws, for
    `validation.jsonl`, evaluate(model) every `config.evaluate_every` steps, for `evaluation.jsonl`. note() is called by
    every process with each checkpoint, to write its own records. resume: the checkpoint to resume from
    (`glide.training.run_folder`). settings: the run's flags, which are compared with the original ones when it is
    resumed. A step whose loss or gradient is not finite is skipped; InputError after `config.max_skipped` in a row (the
    last good checkpoint is kept and named). Stopped (SystemExit) after SIGTERM or Ctrl-C, once a checkpoint is written.
    Any other error after the first step leaves a checkpoint too.
    """
    config.check()
    processes = processes or Processes(device=next(model.parameters()).device)
    config = config.settled(processes, resume)
    if not processes.main:
        warnings.simplefilter("ignore")  # the main process shows them
    stepper = Stepper(model, task, timesteps, config, processes)
    if config.dry_run:
        with lost_peers_reported(processes), closing(batches(0)) as stream:
            dry_run(stepper, stream, time.perf_counter)
        return model
    run = Run(stepper, config, out, save, sample, validate, evaluate, note, settings or RunFlags())
    with lost_peers_reported(processes):
        start = run.begin(resume)
        with Signals() as signals, run.checkpoint_on_error(), closing(batches(start)) as stream:
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
                    run.after_step(step + 1, outcome, bar, signals)
        processes.barrier()
    run.end()
    return stepper.weights.finished()
