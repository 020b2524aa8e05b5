"""The training of a base model, from its settings to its folder: what `scripts/train_base.py` calls."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model, read_config, resolve, save_model
from glide.data.datasets import Batch, Dataset, is_generated, open_data
from glide.data.mask_defaults import EVERYTHING
from glide.data.masked import Masked
from glide.data.skipped_files import MAX_BROKEN, keep_broken, tell_broken
from glide.data.wrappers import Encoded
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.training.config import TrainConfig
from glide.training.distributed import Processes, start
from glide.training.fit import RunFlags, fit, jsonable, last_line
from glide.training.objectives import DiffusionObjective
from glide.training.run_folder import model_folder, run_folder
from glide.training.validation import Validation
from glide.utils.channels import check_channels
from glide.utils.contact_sheet import write_strip
from glide.utils.errors import InputError
from glide.utils.memory import check_memory
from glide.utils.printable import few, say
from glide.utils.ranges import check_numbers


@dataclass(frozen=True)
class TrainBase:
    """Settings of a base model's training."""

    out: Path
    """Folder of the run: log.jsonl, checkpoints/, samples/, and the model itself, which sample.py takes as --model."""
    data: str = "shapes"
    """shapes (shapes:one, shapes:one=1,count=2,pair=3), WebDataset shards ("shards/{0000..0999}.tar"), a folder of
    captioned pictures, or one of class folders."""
    preset: str | None = None
    """Sizes of the model by name; by default those of --init, else shapes-64."""
    recipe: str | None = None
    """A published configuration, whose batch, steps, rate and preset stand in for flags that are not given
    (`glide.training.published_recipes`)."""
    init: str | None = None
    """Model whose weights to begin with: a folder, an embedded name, a published .pt, a hub id."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    null_captions: float = 0.2
    """Share of examples that lose their caption or class, for classifier-free guidance."""
    token_captions: float = 0.0
    """Share of captions that reach the network by attention to their tokens alone, so that it learns to attend."""
    inpaint: bool = False
    """Learn to fill in masked regions: four more input planes (masked picture, mask), and random masks."""
    all_unknown: float = EVERYTHING
    """(inpaint) Share of examples of which nothing is known, so that the model also draws from a caption alone."""
    beside: float = 0.0
    """(inpaint, shapes) Share of scenes of one thing that get another one which is known, and which the caption does
    not speak of: captions for inpainting tell of what is to be painted."""
    unconditional: bool = False
    """Learn the pictures alone, without captions or classes; a folder needs none of them then."""
    channels: int | None = None
    """Of the pictures: 1 is grey, 3 RGB, 4 RGBA; by default as many as the preset or --init has."""
    held_out: float = 0.0
    """Share of the pictures of a folder or of shards that are left out of training, and whose loss is measured. (The
    built-in scenes have held-out ones of their own.)"""
    validation_batches: int = 4
    """Batches of held-out pictures whose loss is measured every --sample-every steps (validation.jsonl); 0: none."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures, and of those without a caption, that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    worker_processes: int = 0
    """Over 0: so many processes make the batches in place of threads; faster beside a GPU for the built-in scenes."""
    vocab_size: int = 512
    """Of the tokenizer that is trained on the captions."""
    dropout: float | None = None
    """In the U-Net; the preset's by default."""
    self_condition: bool = False
    """The network is also shown its own last estimate of the picture (2208.04202): a third more time in training."""
    practice: Annotated[TimestepConfig, tyro.conf.arg(name="")] = field(default_factory=TimestepConfig)
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    loss: Annotated[LossConfig, tyro.conf.arg(name="")] = field(default_factory=LossConfig)
    """Its `prediction` is the model's."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


Sample = Callable[[Model, Path, Sequence[str]], int | None]
"""Draws a grid of a model in training to a path, for these captions where it takes any; returns the height of a row
in pixels, None for that of the model's pictures."""

Fill = Callable[[Model, Path, Batch], int | None]
"""The same of a model that inpaints, for a batch of pictures with their masks."""


@dataclass(frozen=True)
class Kind:
    """What sets the training of one kind of model apart from that of another."""

    presets: Mapping[str, ModelConfig] = field(default_factory=lambda: PRESETS)
    usual: str = "shapes-64"
    """The preset where none is asked for."""
    config: Callable[[ModelConfig], ModelConfig] = lambda config: config
    """What becomes of the sizes that a run begins with. InputError for those of another kind."""
    data: Callable[[Dataset, ModelConfig], Dataset] = lambda data, config: data
    """What becomes of the pictures, which are opened at the model's own size."""
    places: tuple[Path, ...] = ()
    """Folders with embedded models of this kind, which --init looks through first."""


BASE = Kind()

FROZEN_FLAGS = (
    "preset",
    "recipe",
    "init",
    "inpaint",
    "unconditional",
    "channels",
    "vocab_size",
    "dropout",
    "self_condition",
)
"""Settings of a run that are in its folder by now."""
STATE_FLAGS = ("practice.timesteps", "train.ema", "train.ema_snapshots")
"""Settings that its checkpoints hold the state of."""

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
    args: TrainBase, sample: Sample | None = None, kind: Kind = BASE, fill: Fill | None = None
) -> Model:
    """Build data, model and task, and `fit`; returns the trained model. InputError for settings that do not fit.

    sample, fill: draw its progress pictures, `fill`, where it is given, those of a model that inpaints.
    """
    check_numbers(args)
    args.train.check()
    processes = start(args.device)
    flags = {"resume": args.resume, "overwrite": args.overwrite, "dry_run": args.train.dry_run}
    with run_folder(args.out, processes, **flags) as resume:
        trained = _train(args, sample, kind, fill, processes, resume)
        processes.finish()
    return trained


def _train(
    args: TrainBase,
    sample: Sample | None,
    kind: Kind,
    fill: Fill | None,
    processes: Processes,
    resume: Path | None,
) -> Model:
    """`train_base` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(args, train=args.train.settled(processes, resume))
    torch.manual_seed(args.train.seed)
    source = load_model(args.init, places=kind.places) if args.init else None
    # a run that goes on has its sizes and tokenizer in its checkpoints
    before = model_folder(resume, args.out) if resume is not None else None
    model = load_model(before) if before is not None else None
    config = model.config if model is not None else _base_config(args, source, kind)
    unconditional = args.unconditional or (before is not None and _was_unconditional(before))
    reading: dict[str, Any] = {
        "seed": args.train.seed,
        "max_broken": args.max_broken,
        "held_out": args.held_out,
        "channels": config.unet.in_channels,
        "unconditional": unconditional,
    }
    size = config.unet.image_size
    data = open_data(args.data, size, crop=args.crop, flip=args.flip, **reading)
    data.check_batch(args.train.batch_size)
    plain = data = kind.data(data, config)
    if config.inpaint:
        data = Masked(plain, args.train.seed, args.all_unknown, args.beside)
    elif args.beside or args.all_unknown != EVERYTHING:
        raise InputError("--beside or --all-unknown without --inpaint: add it, or leave them out.")
    if model is None:
        model = _build(config, data, args, source)
    if model.tokenizer is not None and not data.class_names:
        data = Encoded(data, model.tokenizer)
    model.to(processes.device)

    loss = dataclasses.replace(args.loss, prediction=config.process.prediction)
    task = DiffusionObjective(loss, args.null_captions, args.token_captions)
    task.check(model)
    timesteps = args.practice.sampler(len(model.process))
    record = {"command": shlex.join(["python", *sys.argv]), **jsonable(dataclasses.asdict(args))}
    record["unconditional"] = unconditional
    if args.init:
        record["init_training"] = _training_of(args.init, kind.places)

    def save(model: Model, out: Path, step: int) -> None:
        last = last_line(out / "log.jsonl")
        training = {**record, "step": step, "log": last}
        save_model(out, model, training, getattr(torch, args.save_dtype), overwrite=True)

    validate = None
    if args.validation_batches and processes.main and (args.held_out or is_generated(args.data)):
        unseen = kind.data(open_data(args.data, size, split="held_out", **reading), config)
        validate = _validation(args, task, unseen, config)

    broken: dict[str, str] = {}  # met by worker processes
    trained = fit(
        model,
        task,
        lambda start: processes.batches(
            data, start, args.train.batch_size, args.workers, args.worker_processes, broken
        ),
        timesteps,
        args.train,
        args.out,
        resume=resume,
        save=save,
        sample=_watcher(args, sample, fill, data, plain, config),
        validate=validate,
        note=lambda: keep_broken(args.out, {**data.broken, **broken}),
        processes=processes,
        settings=RunFlags.of(args, FROZEN_FLAGS, STATE_FLAGS),
    )
    if processes.main and not args.train.dry_run:
        tell_broken(args.out)
    return trained


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
    masked = None
    if config.inpaint and fill is not None:  # none of them wholly unknown
        masked = Masked(plain, args.train.seed, 0.0, args.beside).batch(0, count)

    def watch(model: Model, path: Path) -> None:
        row = None
        if masked is not None and fill is not None:
            row = fill(model, path, masked)
        elif sample is not None:
            row = sample(model, path, captions)
        write_strip(path.parent, row or model.config.unet.image_size + 4)  # with the grid's white lines

    return watch


def _validation(
    args: TrainBase, task: DiffusionObjective, unseen: Dataset, config: ModelConfig
) -> Validation:
    """The loss on held-out data. InputError for more of them than memory holds."""
    if config.inpaint:
        unseen = Masked(unseen, args.train.seed, args.all_unknown, args.beside)
    count, size = args.train.batch_size, config.unet.image_size
    kept = args.validation_batches * count * 3 * size**2
    check_memory(kept, f"--validation-batches {args.validation_batches}", "lower it, 4 is usual")
    batch, steps = _batch_of(unseen, count), config.process.steps
    return Validation(task, unseen, args.validation_batches, batch, steps, args.train.seed, args.train.dtype)


def _was_unconditional(out: Path) -> bool:
    """The run in a folder learns pictures alone: a run that goes on reads its data as before, flag or no flag."""
    training = read_config(out).get("training")
    return isinstance(training, dict) and training.get("unconditional") is True


def _batch_of(data: Dataset, size: int) -> int:
    """`size`, halved until a data set has pictures for it."""
    try:
        data.check_batch(size)
    except InputError:
        return _batch_of(data, size // 2) if size > 1 else 1
    return size


def _base_config(args: TrainBase, source: Model | None, kind: Kind) -> ModelConfig:
    name = args.preset or (kind.usual if source is None else None)
    if name is not None and name not in kind.presets:
        raise InputError(f"--preset {name!r}: expected one of {', '.join(kind.presets)}.")
    config = kind.presets[name] if name is not None else source.config  # type: ignore[union-attr]
    if args.dropout is not None:
        config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, dropout=args.dropout))
    if args.self_condition:
        config = dataclasses.replace(config, unet=dataclasses.replace(config.unet, self_condition=True))
    if args.channels is not None:
        check_channels(args.channels, "--channels")
        outputs = args.channels * (config.unet.out_channels // config.unet.in_channels)
        unet = dataclasses.replace(config.unet, in_channels=args.channels, out_channels=outputs)
        config = dataclasses.replace(config, unet=unet)
    # weights that inpaint already go on to
    inpaint = args.inpaint or (source is not None and source.config.inpaint)
    return kind.config(dataclasses.replace(config, inpaint=inpaint))


def _build(config: ModelConfig, data: Dataset, args: TrainBase, source: Model | None) -> Model:
    """The model for this data, begun with the weights of `source`."""
    tokenizer: Tokenizer | None = None
    if args.unconditional:
        config = dataclasses.replace(config, text=None, num_classes=0, null_class=False, class_names=())
    elif data.class_names:
        null = args.null_captions > 0
        if source is not None and source.config.num_classes:
            null = source.config.null_class
        names = tuple(data.class_names)
        config = dataclasses.replace(
            config, text=None, num_classes=len(names), null_class=null, class_names=names
        )
    elif config.text is not None:
        if source is not None:
            tokenizer = source.tokenizer
        if tokenizer is None:
            tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, config.text.context)
        text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=tokenizer.context)
        config = dataclasses.replace(config, text=text, num_classes=0, class_names=())
    else:
        config = dataclasses.replace(config, num_classes=0, class_names=())  # captions are not looked at
    model = Model(config, tokenizer)
    if source is not None:
        fresh = init_from(model, source)
        if fresh:
            say(f"--init: {len(fresh)} tensors start from scratch: {few(fresh, 4)}")
    return model


def _training_of(name: str, places: Sequence[Path]) -> Any:
    path = resolve(name, *places)
    return read_config(path).get("training") if path.is_dir() else str(name)
