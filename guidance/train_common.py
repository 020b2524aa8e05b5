"""What the trainings of a noisy classifier and of a noisy CLIP share: settings, the run, its noise levels."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import torch
import tyro
from torch import nn

from glide.checkpoints.load import read_model_config
from glide.data.datasets import Batch, Dataset, on_device
from glide.data.skipped_files import MAX_BROKEN, keep_broken, tell_broken
from glide.data.stored_dataset import StoredData
from glide.diffusion.process import Process
from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.config import ModelConfig
from glide.training.config import TrainConfig
from glide.training.distributed import Processes
from glide.training.fit import RunFlags, Task, fit, jsonable, last_line
from glide.training.run_folder import run_folder
from glide.utils.errors import InputError
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.ranges import check_numbers
from guidance.noise_levels import LEVELS, newest, record, spread


@dataclass(frozen=True)
class TrainGuide:
    """Settings of a guide's training, whichever it is."""

    out: Path
    """Folder of the run: log.jsonl, levels.jsonl (measured on held-out data at each noise level), checkpoints/, and
    the guide itself, which sample.py takes as --classifier or --clip."""
    recipe: str | None = None
    """A published configuration, whose batch, steps, rate and preset stand in for flags that are not given
    (`glide.training.published_recipes`)."""
    like: str | None = None
    """The diffusion model to steer: its noise and resolution must be the guide's. By default the noise is that of
    the preset's base model."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    held_out: float = 0.05
    """Share of the pictures of a folder or of shards that are left out of training and measured; 0 to measure
    nothing."""
    levels: int = 10
    """Noise levels at which they are measured."""
    plot: bool = False
    """Also draw the noise levels, as samples/0001000.png, ... (needs matplotlib)."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures, and of those without a caption, that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    practice: Annotated[TimestepConfig, tyro.conf.arg(name="")] = field(default_factory=TimestepConfig)
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""

    def check(self) -> None:
        """InputError for settings that cannot be, before anything is read."""
        check_numbers(self)
        if self.plot:
            figure()  # that matplotlib is missing is said now, not after the first thousand steps

    def folder(self, processes: Processes, dry_run: bool) -> AbstractContextManager[Path | None]:
        """The run's own folder, as of `glide.training.run_folder.run_folder`."""
        return run_folder(self.out, processes, resume=self.resume, overwrite=self.overwrite, dry_run=dry_run)

    def reading(self, seed: int) -> dict[str, Any]:
        """What every data set of the run is opened with."""
        return {"seed": seed, "max_broken": self.max_broken, "held_out": self.held_out}


G = TypeVar("G", bound=nn.Module)
Save = Callable[[Path, G, dict[str, Any], torch.dtype, bool], None]
"""Writes the folder: where, what, its training record, the type of its weights, whether over files of others."""
Measure = Callable[[G, Sequence[int]], "Measured"]
"""The guide and training timesteps -> how it does at each."""


@dataclass(frozen=True)
class Measured:
    """How a guide does on held-out data at several noise levels."""

    levels: Sequence[Any]  # dataclasses, one a level
    of: str  # what was measured: "512 held-out pictures"
    table: str
    plot: Callable[[str], Any]  # from a title to a figure of matplotlib


def train_guide(
    args: TrainGuide,
    config: TrainConfig,
    model: G,
    task: Task[G],
    data: Dataset,
    save_guide: Save[G],
    measure: Measure[G] | None,
    processes: Processes,
    resume: Path | None,
    kept: Sequence[str],
) -> G:
    """`fit` a guide, measure it every `config.sample_every` steps, write its folder; returns it trained.

    resume: the checkpoint to go on from. kept: settings of a run that are in its folder by now.
    """
    settings = {"command": shlex.join(["python", *sys.argv]), **jsonable(dataclasses.asdict(args))}
    process: Process = model.process  # type: ignore[assignment]

    def save(model: G, out: Path, step: int) -> None:
        log = {"step": step, "log": last_line(out / "log.jsonl"), "levels": newest(out / LEVELS, step)}
        save_guide(out, model, {**settings, **log}, getattr(torch, args.save_dtype), True)

    def watch(model: G, path: Path) -> None:
        if measure is not None:
            _report(args, path, measure(model, spread(len(process), args.levels)))

    if resume is None and processes.main and not config.dry_run:
        (args.out / LEVELS).unlink(missing_ok=True)
    trained = fit(
        model,
        task,
        lambda start: processes.batches(data, start, config.batch_size, args.workers),
        args.practice.sampler(len(process)),
        config,
        args.out,
        resume=resume,
        save=save,
        sample=watch,
        note=lambda: keep_broken(args.out, data.broken),
        processes=processes,
        settings=RunFlags.of(args, kept, ("practice.timesteps", "train.ema", "train.ema_snapshots")),
    )
    if processes.main and not config.dry_run:
        tell_broken(args.out)
    return trained


def held_out_batch(data: Dataset, count: int) -> Batch:
    """At most `count` examples of a data set that was opened with split "held_out", as tasks take them."""
    return on_device(data.batch(0, min(count, len(data)) if isinstance(data, StoredData) else count), "cpu")


def noise_of(like: str, check: Callable[[ModelConfig], None]) -> ModelConfig:
    """The configuration of the model to steer. InputError where `check` finds that the guide does not fit it."""
    config = read_model_config(like)
    try:
        check(config)
    except InputError as error:
        raise InputError(f"--like {like}: {error}") from None
    return config


def _report(args: TrainGuide, path: Path, measured: Measured) -> None:
    """Print the table and add it to levels.jsonl; draw it at `path` (samples/0001000.png), whose name is the step."""
    step = int(path.stem)
    title = f"{measured.of} after {step} steps"
    say(f"{title}:\n{measured.table}")
    record(args.out / LEVELS, step, measured.levels)
    if args.plot:
        path.parent.mkdir(parents=True, exist_ok=True)
        measured.plot(title).savefig(path)
