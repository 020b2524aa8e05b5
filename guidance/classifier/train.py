"""Train a noisy classifier, from its settings to its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.load import load_model
from glide.data.datasets import Batch, Dataset, is_generated
from glide.data.labelled import open_labelled
from glide.networks.config import ModelConfig
from glide.training.distributed import Processes
from glide.training.given_settings import ChosenConfig, check_decided, check_kept, read_settings
from glide.training.objectives import in_first_stage
from glide.training.row_rng import RowRng
from glide.training.run_folder import model_folder
from glide.utils.channels import check_channels
from glide.utils.config_flags import Setting
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.classifier.guide import check_classifier
from guidance.classifier.load import begin_with, load_classifier, save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.classifier.noise_levels import accuracy, measure, plot, table
from guidance.classifier.train_flags import CLASSIFIER_FLAGS, FROZEN_FLAGS, TrainClassifier
from guidance.train_common import (
    Measure,
    Measured,
    at_noise_of,
    first_stage_for,
    held_out_batch,
    in_latents,
    named_first_stage,
    show_or_train,
    train_guide,
)


@dataclass(frozen=True)
class Classification:
    """Tell the class of a noised picture (2105.05233, section 4: cross-entropy on x_t, t uniform)."""

    noised: bool = True

    def __call__(self, model: NoisyClassifier, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        """batch: image [N,C,H,W] in [-1,1] with y [N]; t [N] -> [N] losses and accuracies.

        A classifier of latents learns from those of the image.
        """
        x, y = in_first_stage(model.first_stage, batch)["image"], batch["y"]
        if self.noised:
            x = model.process.q_sample(x, t, draws.normal(x))
        else:
            t = torch.zeros_like(t)
        logits = model(x, t).float()
        return {"loss": F.cross_entropy(logits, y, reduction="none"), "accuracy": accuracy(logits, y)}


def train_classifier(args: TrainClassifier) -> NoisyClassifier:
    """Build data and model, and `fit`; returns the trained classifier. InputError for settings that do not fit."""
    args.train.check()
    args.check()
    if args.preset not in CLASSIFIERS:
        raise InputError(f"--preset {args.preset!r}: expected one of {', '.join(CLASSIFIERS)}.")
    return show_or_train(args, args.train.dry_run, config_to_show, _train)


def given_settings(args: TrainClassifier) -> dict[str, Setting]:
    """The settings of --config and of the flags, which come before it. InputError for those that cannot be."""
    short: dict[str, Setting] = {}
    if args.dropout:
        short["encoder.dropout"] = Setting(args.dropout, "--dropout")
    if not args.noised:
        short["classifier.noised"] = Setting(False, "--no-noised")
    short |= named_first_stage(args, "classifier")
    return read_settings(CLASSIFIER_FLAGS, args.config, args.model, short)


def choose_config(args: TrainClassifier, names: Sequence[str] | None = None) -> ChosenConfig:
    """The preset with what was given, at the noise of the model to steer. names: of the data's classes, once known."""
    preset = CLASSIFIERS[args.preset]
    # no dropout unless it is asked for, whatever the base model had
    base = dataclasses.replace(preset, encoder=dataclasses.replace(preset.encoder, dropout=0.0))
    settings = in_latents(args, given_settings(args), "classifier", "encoder.in_channels")
    config = CLASSIFIER_FLAGS.apply(base, settings)
    if names is not None:
        config = dataclasses.replace(config, num_classes=len(names), class_names=tuple(names))
        check_decided(CLASSIFIER_FLAGS, settings, config)
    if args.like is not None:
        ours = config

        def check(like: ModelConfig) -> None:
            of_the_model = like if names is not None else dataclasses.replace(like, num_classes=0)
            check_classifier(dataclasses.replace(ours, process=like.process, noised=True), of_the_model)

        config, settings = at_noise_of(CLASSIFIER_FLAGS, config, settings, args.like, check)
    return ChosenConfig(CLASSIFIER_FLAGS, config, f"preset {args.preset}", settings)


def config_to_show(args: TrainClassifier) -> ChosenConfig:
    """The configuration of the classifier that these flags train, or, with --resume, of the run in --out."""
    if not args.resume:
        return choose_config(args)
    config = load_classifier(args.out).config
    check_kept(CLASSIFIER_FLAGS, given_settings(args), config)
    return ChosenConfig(CLASSIFIER_FLAGS, config, f"the run in {args.out}", {})


def _train(args: TrainClassifier, processes: Processes, resume: Path | None) -> NoisyClassifier:
    """`train_classifier` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(args, train=args.train.settled(processes, resume))
    torch.manual_seed(args.train.seed)
    # a run that goes on has its sizes in its checkpoints
    saved = load_classifier(model_folder(resume, args.out)) if resume is not None else None
    if saved is not None:
        check_kept(CLASSIFIER_FLAGS, given_settings(args), saved.config)
    config = saved.config if saved is not None else choose_config(args).config
    check_channels(config.picture_channels, "encoder.in_channels")
    data = _open(args, config, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    measured = _held_out(args, config)
    if saved is None:
        model = NoisyClassifier(choose_config(args, data.class_names).config)
        model.first_stage = first_stage_for(args, model.config.first_stage)
        if args.init is not None:
            begin_with(model, load_model(args.init), args.init)
    elif tuple(data.class_names) == config.class_names:
        model = saved
    else:
        raise InputError(f"--data {args.data} has other classes than the run in {args.out}: give its data.")
    model.to(processes.device)
    task = Classification(model.config.noised)
    return train_guide(
        args, args.train, model, task, data, save_classifier, measured, processes, resume, FROZEN_FLAGS
    )


def _open(args: TrainClassifier, config: ClassifierConfig, **options: Any) -> Dataset:
    options |= {**args.reading(args.train.seed), "channels": config.picture_channels}
    return open_labelled(args.data, config.picture_size, args.target, **options)


def _held_out(args: TrainClassifier, config: ClassifierConfig) -> Measure[NoisyClassifier] | None:
    """Measures on pictures that training never sees; None where nothing is left out."""
    if not (args.held_out or is_generated(args.data)):
        return None
    batch = held_out_batch(_open(args, config, split="held_out"), args.held_out_images)
    image, y = batch["image"], batch["y"]

    def measured(model: NoisyClassifier, timesteps: Sequence[int]) -> Measured:
        at = timesteps if model.config.noised else (None,)
        levels = measure(model, image, y, at, getattr(torch, args.train.dtype))
        classes = model.config.num_classes
        return Measured(
            levels, f"{len(y)} held-out pictures", table(levels), lambda title: plot(levels, classes, title)
        )

    return measured
