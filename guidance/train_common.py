"""The run of a guide's training, a noisy classifier's or CLIP's: fit, measure at several noise levels, save."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from glide.checkpoints.first_stages import check_first_stage, first_stage_named, first_stage_of
from glide.checkpoints.load import read_model_config, resolve
from glide.data.datasets import Batch, Dataset, on_device
from glide.data.skipped_files import record_broken, report_broken
from glide.data.stored_dataset import StoredData
from glide.diffusion.process import Process
from glide.networks.config import FirstStageConfig, ModelConfig
from glide.networks.first_stage import PIXELS, FirstStage, LatentStage
from glide.training.config import TrainConfig
from glide.training.distributed import Processes, start
from glide.training.fit import RunFlags, Task, fit, jsonable, last_line
from glide.training.given_settings import ChosenConfig, Settings, check_kept, named, settings_of_first_stage
from glide.training.run_folder import run_folder
from glide.utils.config_flags import ConfigFlags, Setting
from glide.utils.errors import InputError
from glide.utils.printable import say
from glide.utils.program import command_line
from guidance.noise_levels import LEVELS, means, newest, record, spread
from guidance.train_common_flags import TrainGuide

G = TypeVar("G", bound=nn.Module)
Flags = TypeVar("Flags", bound=TrainGuide)
Save = Callable[[Path, G, dict[str, Any], torch.dtype, bool], None]
"""Writes the folder: where, what, its training record, the type of its weights, whether over files of others."""
Measure = Callable[[G, Sequence[int]], "Measured"]
"""The guide and training timesteps -> how it does at each."""


@dataclass(frozen=True)
class Measured:
    """Measures a guide on held-out data at several noise levels."""

    levels: Sequence[Any]  # dataclasses, one a level
    of: str  # what was measured: "512 held-out pictures"
    table: str
    plot: Callable[[str], Any]  # from a title to a figure of matplotlib


def show_or_train(
    args: Flags,
    dry_run: bool,
    to_show: Callable[[Flags], ChosenConfig],
    train: Callable[[Flags, Processes, Path | None], G],
) -> G:
    """Train a guide in the run's own folder; returns it. With --show-config: print its configuration and exit with 0.

    to_show: the configuration that the flags choose, printed as TOML with the source of each value. train: from the
    flags, the processes and the checkpoint to resume from, or None, to the trained guide.
    """
    if args.show_config:
        say(to_show(args).as_toml(), result=True)
        sys.exit(0)
    processes = start(args.device)
    with run_folder(
        args.out, processes, resume=args.resume, overwrite=args.overwrite, dry_run=dry_run
    ) as resume:
        trained = train(args, processes, resume)
        processes.finish()
    return trained


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
    """`fit` a guide, measure it every `config.sample_every` and `evaluate_every` steps; returns it trained.

    resume: the checkpoint to go on from. kept: settings of a run that are in its folder by now.
    """
    settings = {"command": command_line(), **jsonable(dataclasses.asdict(args))}
    process: Process = model.process  # type: ignore[assignment]

    def save(model: G, out: Path, step: int) -> None:
        log = {"step": step, "log": last_line(out / "log.jsonl"), "levels": newest(out / LEVELS, step)}
        save_guide(out, model, {**settings, **log}, getattr(torch, args.save_dtype), True)

    def watch(model: G, path: Path) -> None:
        if measure is not None:
            _report(args, path, measure(model, spread(len(process), args.levels)))

    def evaluate(model: G) -> dict[str, float]:
        assert measure is not None
        return means(measure(model, spread(len(process), args.levels)).levels)

    if measure is None and config.evaluate_every:
        raise InputError(
            f"got --evaluate-every {config.evaluate_every} without held-out pictures, on which it measures, expected "
            "some: give --held-out, or leave it out"
        )
    if resume is None and processes.main and not config.dry_run:
        (args.out / LEVELS).unlink(missing_ok=True)
    trained = fit(
        model,
        task,
        lambda step: processes.batches(data, step, config.batch_size, args.workers),
        args.practice.sampler(len(process)),
        config,
        args.out,
        resume=resume,
        save=save,
        sample=watch,
        evaluate=evaluate,
        note=lambda: record_broken(args.out, data.broken),
        processes=processes,
        settings=RunFlags.of(args, kept, ("practice.timesteps", "train.ema", "train.ema_snapshots")),
    )
    if processes.main and not config.dry_run:
        report_broken(args.out)
    return trained


def named_first_stage(args: TrainGuide, owner: str) -> dict[str, Setting]:
    """The settings of --first-stage; none without it. owner: the table of the guide's own fields."""
    if args.first_stage is None:
        return {}
    stage = first_stage_named(args.first_stage)
    return settings_of_first_stage(stage.config, owner, f"--first-stage {args.first_stage}")


def in_latents(args: TrainGuide, settings: Settings, owner: str, channels: str) -> dict[str, Setting]:
    """The settings of a new guide with those of the latents that it learns from, where it does.

    They are the latents of --first-stage, else of --like. owner: the table of the guide's own fields. channels: the
    key of the channels that it sees. InputError for other channels in `settings`.
    """
    stage = _first_stage(args)
    if stage is None:
        return dict(settings)
    source = f"--like {args.like}" if args.first_stage is None else f"--first-stage {args.first_stage}"
    count = stage.autoencoder.latent_channels
    if channels in settings and settings[channels].value != count:
        raise InputError(
            f"got {named(channels, settings[channels])} {settings[channels].value} with latents of {count} channels, "
            "expected as many: leave it out"
        )
    found = settings_of_first_stage(stage.config, owner, source)
    return {**found, channels: Setting(count, source), **settings}


def first_stage_for(args: TrainGuide, config: FirstStageConfig | None) -> FirstStage:
    """The first stage of a new guide of that configuration: pixels, or the autoencoder of --first-stage or --like.

    InputError where neither is the one of the configuration.
    """
    if config is None:
        return PIXELS
    stage = _first_stage(args)
    if stage is None:
        raise InputError(
            "got a configuration with a first stage and no autoencoder, expected one: give --first-stage, or --like"
        )
    check_first_stage(config, stage.autoencoder, str(args.first_stage or args.like))
    return LatentStage(stage.autoencoder, config)


def _first_stage(args: TrainGuide) -> LatentStage | None:
    """The autoencoder of --first-stage, else that of --like where that model draws latents."""
    if args.first_stage is not None:
        return first_stage_named(args.first_stage)
    config = None if args.like is None else read_model_config(args.like).first_stage
    return None if config is None else first_stage_of(config, resolve(str(args.like)))


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


def at_noise_of(
    flags: ConfigFlags[Any], config: Any, settings: Settings, like: str, check: Callable[[ModelConfig], None]
) -> tuple[Any, dict[str, Setting]]:
    """A guide's configuration at the noise of the model to steer, and its settings with those of that noise.

    check: as of `noise_of`. InputError where it finds that the guide does not fit, and for another noise in `settings`.
    """
    config = dataclasses.replace(config, process=noise_of(like, check).process)
    asked = {key: setting for key, setting in settings.items() if key.startswith("process.")}
    check_kept(flags, asked, config, f"--like {like}", "or leave out --like")
    noise = {key: value for key, value in flags.values(config).items() if key.startswith("process.")}
    return config, {**{key: Setting(value, f"--like {like}") for key, value in noise.items()}, **settings}


def _report(args: TrainGuide, path: Path, measured: Measured) -> None:
    """Print the table and add it to levels.jsonl; draw it at `path` (samples/0001000.png), whose name is the step."""
    step = int(path.stem)
    title = f"{measured.of} after {step} steps"
    say(f"{title}:\n{measured.table}")
    record(args.out / LEVELS, step, measured.levels)
    if args.plot:
        path.parent.mkdir(parents=True, exist_ok=True)
        measured.plot(title).savefig(path)
