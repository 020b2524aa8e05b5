"""The training of a noisy classifier, from its settings to its folder: what `scripts/train_classifier.py` calls."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor
from tqdm import tqdm

from glide.checkpoint import read_model_config
from glide.data import Batch, Dataset, FolderData, prefetch
from glide.errors import InputError
from glide.labelled import Target, open_labelled
from glide.optim import OptimConfig
from glide.plots import figure
from glide.timesteps import UniformTimesteps
from glide.train import TrainConfig, fit, last_line
from guidance.classifier import (
    CLASSIFIERS,
    ClassifierConfig,
    NoisyClassifier,
    load_classifier,
    save_classifier,
)
from guidance.classifier_guidance import check_classifier
from guidance.classifier_levels import accuracy, measure, plot, table
from guidance.levels import LEVELS, newest, record, spread


@dataclass(frozen=True)
class TrainClassifier:
    """Settings of a classifier's training."""

    out: Path
    """Folder of the run: log.jsonl, levels.jsonl (held-out loss and accuracy at each noise level), checkpoints/, and
    the classifier itself, which sample.py takes as --classifier."""
    data: str = "shapes:one"
    """shapes:one (or shapes:one=3,count=1), or a folder that holds a folder of pictures for each class."""
    target: Target = "shape"
    """What the class of a built-in scene is."""
    preset: str = "shapes-64"
    """Sizes of the classifier, by the name of the base models it is for."""
    like: str | None = None
    """The diffusion model to steer: its noise, resolution and classes must be the classifier's. By default the noise
    is that of the preset's base model."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    noised: bool = True
    """Train on pictures at all noise levels; without, on clean ones (such a classifier cannot guide)."""
    held_out: float = 0.05
    """Share of a folder's pictures that are left out of training and measured; 0 to measure nothing."""
    held_out_images: int = 512
    """Pictures that are measured, at most, every --sample-every steps."""
    levels: int = 10
    """Noise levels at which they are measured."""
    plot: bool = False
    """Also draw the noise levels, as samples/0001000.png, ... (needs matplotlib)."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random."""
    max_broken: float = 0.01
    """Share of damaged pictures that are skipped and counted."""
    dropout: float = 0.0
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, a third more time."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=10_000, optim=OptimConfig(lr=3e-4, weight_decay=0.05, cooldown=1.0)
        )
    )
    """As ADM: the learning rate falls linearly to zero from the start (--cooldown 1)."""


@dataclass(frozen=True)
class Classification:
    """Tell the class of a noised picture (2105.05233, section 4: cross-entropy on x_t, t uniform)."""

    noised: bool = True

    def __call__(
        self, model: NoisyClassifier, batch: Batch, t: Tensor, generator: torch.Generator
    ) -> dict[str, Tensor]:
        """batch: image [N,3,H,W] in [-1,1] with y [N]; t [N] -> [N] losses and accuracies."""
        x, y = batch["image"], batch["y"]
        if self.noised:
            x = model.process.q_sample(x, t, torch.randn(x.shape, generator=generator).to(x))
        else:
            t = torch.zeros_like(t)
        logits = model(x, t).float()
        return {"loss": F.cross_entropy(logits, y, reduction="none"), "accuracy": accuracy(logits, y)}


def train_classifier(args: TrainClassifier) -> NoisyClassifier:
    """Build data and model, and `fit`; returns the trained classifier. InputError for settings that do not fit."""
    if args.held_out_images < 1 or args.levels < 1:
        raise InputError(
            f"--held-out-images {args.held_out_images} --levels {args.levels}: expected at least 1 of each."
        )
    if not args.resume and (args.out / "checkpoints").exists():
        raise InputError(f"{args.out} already holds a run; give --resume to go on with it, or another --out.")
    if args.resume and not any(args.out.glob("checkpoints/step-*")):
        raise InputError(f"--resume: no checkpoint in {args.out}; start the run without --resume.")
    if args.plot:
        figure()  # that matplotlib is missing is said now, not after the first thousand steps
    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    torch.manual_seed(args.train.seed)

    if args.preset not in CLASSIFIERS:
        raise InputError(f"--preset {args.preset!r}: expected one of {', '.join(CLASSIFIERS)}.")
    saved = load_classifier(args.out) if args.resume else None
    config = saved.config if saved is not None else CLASSIFIERS[args.preset]
    data = _open(args, config.encoder.image_size, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    measured = _held_out(args, config.encoder.image_size)
    if saved is None:
        model = NoisyClassifier(_config(args, config, data))
    elif tuple(data.class_names) == config.class_names:
        model = saved  # weights come from the checkpoint; sizes from here
    else:
        raise InputError(f"--data {args.data} has other classes than the run in {args.out}: give its data.")
    model.to(device)
    model.encoder.gradient_checkpointing = args.gradient_checkpointing
    given: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(args), default=str))
    settings = {"command": shlex.join(["python", *sys.argv]), **given}

    def save(model: NoisyClassifier, out: Path, step: int) -> None:
        log = {"step": step, "log": last_line(out / "log.jsonl"), "levels": newest(out / LEVELS, step)}
        save_classifier(out, model, {**settings, **log}, getattr(torch, args.save_dtype))

    def watch(model: NoisyClassifier, path: Path) -> None:
        if measured is not None:
            _measure(args, model, *measured, path)

    def batches(start: int) -> Iterator[Batch]:
        return prefetch(data, start, args.train.batch_size)

    task, timesteps = Classification(model.config.noised), UniformTimesteps(len(model.process))
    if not args.resume:
        (args.out / LEVELS).unlink(missing_ok=True)
        save(model, args.out, 0)
    fit(model, task, batches, timesteps, args.train, args.out, resume=args.resume, save=save, sample=watch)
    save(model, args.out, args.train.steps)  # once more, now that the last measurement is there
    return model


def _open(args: TrainClassifier, size: int, **options: Any) -> Dataset:
    common = {"seed": args.train.seed, "max_broken": args.max_broken, "held_out": args.held_out}
    return open_labelled(args.data, size, args.target, **common, **options)


def _held_out(args: TrainClassifier, size: int) -> tuple[Tensor, Tensor] | None:
    """Pictures [M,3,H,W] and classes [M] that training never sees, or None where nothing is left out."""
    generated = args.data.startswith("shapes:")
    if not (args.held_out or generated):
        return None
    data = _open(args, size, split="held_out")
    count = args.held_out_images
    if isinstance(data, FolderData):
        count = min(count, len(data))
    batch = data.batch(0, count)
    return batch["image"], batch["y"]


def _config(args: TrainClassifier, preset: ClassifierConfig, data: Dataset) -> ClassifierConfig:
    """The preset for this data, at the noise of the model that it is to steer."""
    names = tuple(data.class_names)
    encoder = dataclasses.replace(preset.encoder, dropout=args.dropout)
    config = dataclasses.replace(
        preset, encoder=encoder, num_classes=len(names), class_names=names, noised=args.noised
    )
    if args.like is None:
        return config
    like = read_model_config(args.like)
    config = dataclasses.replace(config, process=like.process)
    try:
        check_classifier(dataclasses.replace(config, noised=True), like)
    except InputError as error:
        raise InputError(f"--like {args.like}: {error}") from None
    return config


def _measure(args: TrainClassifier, model: NoisyClassifier, image: Tensor, y: Tensor, path: Path) -> None:
    """Print the table of noise levels and add it to levels.jsonl; draw it at `path` (samples/0001000.png)."""
    step = int(path.stem)
    timesteps: list[int | None] = [None]
    if model.config.noised:
        timesteps = [*spread(len(model.process), args.levels)]
    levels = measure(model, image, y, timesteps, getattr(torch, args.train.dtype))
    title = f"{len(y)} held-out pictures after {step} steps"
    tqdm.write(f"{title}:\n{table(levels)}")
    record(args.out / LEVELS, step, levels)
    if args.plot:
        path.parent.mkdir(parents=True, exist_ok=True)
        plot(levels, model.config.num_classes, title).savefig(path)
