"""The training of a base model, from its flags to its folder."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.image_encoders import find_image_encoder
from glide.checkpoints.load import load_model, read_config, resolve, save_model
from glide.data.datasets import Batch, Dataset, is_generated
from glide.data.encodings import Encodings
from glide.data.mask_defaults import EVERYTHING
from glide.data.masked import Masked
from glide.data.skipped_files import record_broken, report_broken
from glide.data.wrappers import Encoded, Numbered, WithEncodings
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.picture_sizes import default_size, trained_sizes
from glide.training.base_data import batch_of, check_shapes, open_for_training, open_part, sized
from glide.training.build_model import build_model
from glide.training.distributed import Processes, start
from glide.training.fit import RunFlags, fit, jsonable, last_line
from glide.training.given_settings import ChosenConfig, Settings, check_decided, check_kept
from glide.training.latent_data import check_ahead, encode_part, encoded_ahead
from glide.training.model_config import BASE, ModelKind, choose_config, given_settings
from glide.training.objectives import DiffusionObjective
from glide.training.run_folder import model_folder, run_folder
from glide.training.step import Task
from glide.training.train_base_flags import MODEL_FLAGS, STATE_FLAGS, TrainBase
from glide.training.trained_parts import train_only
from glide.training.validation import Validation
from glide.utils.contact_sheet import write_strip
from glide.utils.errors import InputError
from glide.utils.memory import check_memory
from glide.utils.printable import say
from glide.utils.program import command_line
from glide.utils.ranges import check_numbers

Sample = Callable[[Model, Path, Sequence[str]], int | None]
"""Draws a grid of a model in training to a path, for these captions where it takes any; returns the height of a row
in pixels, None for that of the model's pictures."""

Fill = Callable[[Model, Path, Batch], int | None]
"""The same of a model that inpaints, or that is conditioned on pictures, for a batch with masks or conditions."""

Evaluation = Callable[[TrainBase, Model, Dataset], Callable[[Model], Mapping[str, Any]]]
"""Makes, from the flags, the model before the first step and the held-out pictures (or, without any, those of the
data), the function that measures a model in training for evaluation.jsonl. InputError for what cannot be measured."""

MakeTask = Callable[[TrainBase, DiffusionObjective, Model], Task[Model]]
"""Makes another task of a diffusion objective, from the flags and the model on its device. InputError where they do not
fit."""

PREVIEW_CAPTIONS = (
    "a red circle",
    "a small green star in the top left corner",
    "three blue squares",
    "a large yellow heart on a dark blue background",
    "a large red circle to the left of a small blue square",
    "a white ring above a purple cross",
    "two small orange triangles on a black background",
    "a small pink star inside a large cyan circle",
)
"""Captions of the progress pictures of the built-in scenes; other data are watched with their own first captions."""


def train_base(
    args: TrainBase,
    sample: Sample | None = None,
    kind: ModelKind = BASE,
    fill: Fill | None = None,
    evaluation: Evaluation | None = None,
    make_task: MakeTask | None = None,
) -> Model:
    """Build data, model and task, and `fit`; returns the trained model. InputError for settings that do not fit.

    sample, fill: draw its progress pictures, `fill`, where it is given, those of a model that inpaints. evaluation: for
    --evaluate-every. make_task: the task, where it is not that of a diffusion model. With --show-config it prints the
    model's configuration, and with --encode-part it encodes latents; it then exits with 0.
    """
    check_numbers(args)
    args.train.check()
    check_shapes(args, kind.draws)
    if args.show_config:
        say(config_to_show(args, kind).as_toml(), result=True)
        sys.exit(0)
    processes = start(args.device)
    if args.encode_part is not None:
        begun = _begin(args, kind, None)
        encode_part(args, begun.config, begun.unconditional, processes)
        sys.exit(0)
    flags = {"resume": args.resume, "overwrite": args.overwrite, "dry_run": args.train.dry_run}
    with run_folder(args.out, processes, **flags) as resume:
        trained = _train(args, sample, kind, fill, evaluation, make_task, processes, resume)
        processes.finish()
    return trained


def config_to_show(args: TrainBase, kind: ModelKind = BASE) -> ChosenConfig:
    """The configuration of the model that these flags train, or, with --resume, of the run in --out."""
    if args.resume:
        config = load_model(args.out).config
        check_kept(MODEL_FLAGS, given_settings(args), config)
        return ChosenConfig(MODEL_FLAGS, config, f"the run in {args.out}", {})
    source = load_model(args.init, places=kind.places) if args.init else None
    chosen = choose_config(args, source.config if source is not None else None, kind)
    return dataclasses.replace(chosen, config=sized(chosen.config, args))


@dataclass(frozen=True)
class _Begun:
    """The model that a run begins with."""

    config: ModelConfig
    """Of a new run: as it is before the data is known."""
    settings: Settings
    source: Model | None
    """The model of --init."""
    model: Model | None
    """The model of the run's own folder, where it goes on."""
    unconditional: bool


def _begin(args: TrainBase, kind: ModelKind, resume: Path | None) -> _Begun:
    """The configuration, and the model where there is one. resume: the checkpoint to go on from."""
    source = load_model(args.init, places=kind.places) if args.init else None
    if resume is None:
        chosen = choose_config(args, source.config if source is not None else None, kind)
        return _Begun(sized(chosen.config, args), chosen.settings, source, None, args.unconditional)
    # a run that goes on has its sizes and tokenizer in its checkpoints
    folder = model_folder(resume, args.out)
    model, settings = load_model(folder), given_settings(args)
    check_kept(MODEL_FLAGS, settings, model.config)
    return _Begun(model.config, settings, source, model, args.unconditional or _was_unconditional(folder))


def _train(
    args: TrainBase,
    sample: Sample | None,
    kind: ModelKind,
    fill: Fill | None,
    evaluation: Evaluation | None,
    make_task: MakeTask | None,
    processes: Processes,
    resume: Path | None,
) -> Model:
    """`train_base` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(args, train=args.train.settled(processes, resume))
    torch.manual_seed(args.train.seed)
    begun = _begin(args, kind, resume)
    stored, config = open_for_training(args, begun.config, begun.unconditional, processes.main)
    begun = dataclasses.replace(begun, config=config)
    data = plain = kind.data(stored, config)
    if config.inpaint:
        data = Masked(plain, args.train.seed, args.all_unknown, args.beside)
    elif args.beside or args.all_unknown != EVERYTHING:
        raise InputError("--beside or --all-unknown without --inpaint: add it, or leave them out.")
    model = begun.model
    if model is None:
        model = build_model(config, data, args, begun.source, begun.settings)
        check_decided(MODEL_FLAGS, begun.settings, model.config)
    train_only(model, args.train_part)
    model.to(processes.device)
    data, encodings = _encoded(args, data, model, processes)
    if make_task is not None:
        data = Numbered(data)

    objective = _objective(args, model, encodings)
    task = objective if make_task is None else make_task(args, objective, model)
    still = task if make_task is not None else dataclasses.replace(objective, augment=0.0)
    validate = _validation(args, still, begun, kind) if processes.main else None
    evaluate = _evaluator(args, evaluation, model, begun, kind) if processes.main else None

    broken: dict[str, str] = {}  # met by worker processes
    trained = fit(
        model,
        task,
        lambda start: processes.batches(
            data, start, args.train.batch_size, args.workers, args.worker_processes, broken
        ),
        args.practice.sampler(len(model.process)),
        args.train,
        args.out,
        resume=resume,
        save=_saver(args, kind, begun.unconditional),
        sample=_watcher(args, sample, fill, data, plain, config),
        validate=validate,
        evaluate=evaluate,
        note=lambda: record_broken(args.out, {**data.broken, **broken}),
        processes=processes,
        settings=RunFlags.of(args, args.frozen_flags, STATE_FLAGS),
    )
    if processes.main and not args.train.dry_run:
        report_broken(args.out)
    return trained


def _objective(args: TrainBase, model: Model, encodings: Encodings | None) -> DiffusionObjective:
    """The task of these flags. InputError where the model does not fit it."""
    asked = model.config.image_encoder
    task = DiffusionObjective(
        loss=dataclasses.replace(args.loss, prediction=model.config.process.prediction),
        null_captions=args.null_captions,
        token_captions=args.token_captions,
        encodings=encodings,
        null_conditions=args.null_conditions,
        image_encoder=None if asked is None else find_image_encoder(asked),
        inner_weight=args.inner_weight,
        augment=args.augment,
    )
    task.check(model)
    return task


def _encoded(
    args: TrainBase, data: Dataset, model: Model, processes: Processes
) -> tuple[Dataset, Encodings | None]:
    """The data with latents and captions encoded ahead, as far as is asked for, and the kept encodings."""
    if args.encode_ahead is not None:
        if args.augment:
            raise InputError(
                "got --augment with --encode-ahead, which encodes each picture once, expected one of them: leave "
                "--encode-ahead out"
            )
        check_ahead(model.config)
        if not args.train.dry_run:  # which writes nothing
            data = encoded_ahead(args.encode_ahead, data, model, processes)
    encodings = _encodings(args, model)
    if model.tokenizer is None or data.class_names:
        return data, encodings
    if encodings is None:
        return Encoded(data, model.tokenizer), None
    return WithEncodings(data, encodings, model.tokenizer), encodings


def _encodings(args: TrainBase, model: Model) -> Encodings | None:
    """The kept encodings of --encodings. InputError for a model without a frozen text encoder."""
    if args.encodings is None:
        return None
    if model.config.text_encoder is None:
        raise InputError(
            "got --encodings for a model whose text encoder is trained, expected --text-encoder: leave it out"
        )
    # a dry run writes nothing
    return None if args.train.dry_run else Encodings(args.encodings, model.config.text_encoder)


def _saver(args: TrainBase, kind: ModelKind, unconditional: bool) -> Callable[[Model, Path, int], None]:
    """The function that writes the model folder, with the record of its training."""
    record = {"command": command_line(), **jsonable(dataclasses.asdict(args))}
    record["unconditional"] = unconditional
    if args.init:
        record["init_training"] = _training_of(args.init, kind.places)

    def save(model: Model, out: Path, step: int) -> None:
        training = {**record, "step": step, "log": last_line(out / "log.jsonl")}
        save_model(out, model, training, getattr(torch, args.save_dtype), overwrite=True)

    return save


def _watcher(
    args: TrainBase,
    sample: Sample | None,
    fill: Fill | None,
    data: Dataset,
    plain: Dataset,
    config: ModelConfig,
) -> Callable[[Model, Path], None]:
    """The function that draws progress pictures. plain: the data without masks."""
    count = min(8, args.train.batch_size)
    captions = PREVIEW_CAPTIONS
    if not is_generated(args.data):
        captions = tuple(dict.fromkeys(data.batch(0, count).get("caption", ())))
    shown = None
    if config.inpaint:  # none of them wholly unknown
        shown = Masked(plain, args.train.seed, 0.0, args.beside).batch(0, count)
    elif config.conditioned_on_pictures:
        shown = plain.batch(0, count)

    def watch(model: Model, path: Path) -> None:
        row = None
        if shown is not None and fill is not None:
            row = fill(model, path, shown)
        elif sample is not None:
            row = sample(model, path, captions)
        write_strip(path.parent, row or default_size(model.config)[0] + 4)  # with the grid's white lines

    return watch


def _evaluator(
    args: TrainBase, evaluation: Evaluation | None, model: Model, begun: _Begun, kind: ModelKind
) -> Callable[[Model], Mapping[str, Any]] | None:
    """The function of --evaluate-every, on held-out pictures where there are any. InputError as `Evaluation`."""
    if evaluation is None or not args.train.evaluate_every:
        return None
    split = "held_out" if args.held_out or is_generated(args.data) else "train"
    data = open_part(args, begun.config, begun.unconditional, split=split)  # at the default size
    return evaluation(args, model, kind.data(data, begun.config))


def _validation(
    args: TrainBase, task: Task[Model], begun: _Begun, kind: ModelKind
) -> Validation[Model] | None:
    """The loss on held-out data; None where there are none. InputError for more of them than memory holds."""
    if not args.validation_batches or not (args.held_out or is_generated(args.data)):
        return None
    config = begun.config
    sizes = trained_sizes(config)
    unseen = kind.data(open_part(args, config, begun.unconditional, sizes, split="held_out"), config)
    if config.inpaint:
        unseen = Masked(unseen, args.train.seed, args.all_unknown, args.beside)
    count = args.train.batch_size
    kept = args.validation_batches * count * 3 * max(map(math.prod, sizes))
    check_memory(kept, f"--validation-batches {args.validation_batches}", "lower it, 4 is usual")
    batch, steps = batch_of(unseen, count), config.process.steps
    return Validation(task, unseen, args.validation_batches, batch, steps, args.train.seed, args.train.dtype)


def _was_unconditional(out: Path) -> bool:
    """The run in a folder learns pictures alone: a run that goes on reads its data as before, flag or no flag."""
    training = read_config(out).get("training")
    return isinstance(training, dict) and training.get("unconditional") is True


def _training_of(name: str, places: Sequence[Path]) -> Any:
    path = resolve(name, *places)
    return read_config(path).get("training") if path.is_dir() else str(name)
