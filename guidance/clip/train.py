"""Train a noisy CLIP, from its settings to its folder."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from glide.data.datasets import Dataset, is_generated, open_data
from glide.data.hard_negatives import WithHardNegatives
from glide.networks.config import ModelConfig
from glide.networks.tokenizer import Tokenizer
from glide.training.distributed import Processes
from glide.training.given_settings import ChosenConfig, check_decided, check_kept, read_settings
from glide.training.run_folder import model_folder
from glide.utils.channels import check_channels
from glide.utils.config_flags import Setting
from glide.utils.errors import InputError
from guidance.clip.add_layers import deepened
from guidance.clip.config import CLIPS, ClipConfig
from guidance.clip.contrastive import Contrastive
from guidance.clip.load import clip_from, load_clip, save_clip
from guidance.clip.network import NoisyClip
from guidance.clip.noise_levels import plot, retrieval, table
from guidance.clip.score_matching import Teacher, check_learns_gradient
from guidance.clip.train_flags import CLIP_FLAGS, FROZEN_FLAGS, TrainClip
from guidance.compatibility import check_fits
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


def train_clip(args: TrainClip) -> NoisyClip:
    """Build data and model, and `fit`; returns the trained CLIP. InputError for settings that do not fit."""
    args.train.check()
    _check(args)
    return show_or_train(args, args.train.dry_run, config_to_show, _train)


def _train(args: TrainClip, processes: Processes, resume: Path | None) -> NoisyClip:
    """`train_clip` in the run's own folder. resume: the checkpoint to go on from."""
    args = dataclasses.replace(
        args, train=args.train.settled(processes, resume, half=not args.gradient_weight)
    )
    torch.manual_seed(args.train.seed)
    # a run that goes on has its sizes and tokenizer in its checkpoints
    begun = _begun(args) if resume is None else load_clip(model_folder(resume, args.out))
    if begun is not None and resume is not None:
        check_kept(CLIP_FLAGS, given_settings(args), begun.config)
    config = begun.config if begun is not None else choose_config(args).config
    check_channels(config.picture_channels, "image.channels")
    data = _open(args, config, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    measured = _held_out(args, config)
    model = (begun if begun is not None else _build(args, config, data)).to(processes.device)
    dtype = getattr(torch, args.train.dtype)
    teacher = Teacher(str(args.like), processes.device, dtype) if args.gradient_weight else None
    task = Contrastive(teacher, args.gradient_weight)
    return train_guide(
        args, args.train, model, task, data, save_clip, measured, processes, resume, FROZEN_FLAGS
    )


def _check(args: TrainClip) -> None:
    """InputError for settings that cannot be."""
    args.check()
    if args.train.batch_size < 2 or args.train.accumulate != 1:
        raise InputError(
            f"--batch-size {args.train.batch_size} --accumulate {args.train.accumulate}: expected at least 2, and 1, "
            "as all of a batch are compared with each other."
        )
    if args.gradient_weight:
        check_learns_gradient(args.like, args.train)
    if args.deepen and args.init is None:
        raise InputError(f"got --deepen {args.deepen} without --init, expected both: add --init NAME")
    if args.preset not in CLIPS:
        raise InputError(f"--preset {args.preset!r}: expected one of {', '.join(CLIPS)}.")


def _begun(args: TrainClip) -> NoisyClip | None:
    """The CLIP of --init. InputError for flags that would change its sizes or words."""
    if args.init is None:
        return None
    if args.vocab is not None or args.context is not None:
        raise InputError(
            f"--vocab or --context with --init {args.init}, whose tokenizer is kept: leave them out."
        )
    clip = clip_from(args.init, CLIPS[args.preset].embedding)
    check_kept(
        CLIP_FLAGS, given_settings(args), clip.config, f"--init {args.init}", "or train a CLIP without --init"
    )
    _at_noise(args, clip.config, {})
    return deepened(clip, args.deepen) if args.deepen else clip


def given_settings(args: TrainClip) -> dict[str, Setting]:
    """The settings of --config and of the flags, which come before it. InputError for those that cannot be."""
    short = {} if args.context is None else {"text.context": Setting(args.context, "--context")}
    return read_settings(CLIP_FLAGS, args.config, args.model, short | named_first_stage(args, "clip"))


def choose_config(args: TrainClip) -> ChosenConfig:
    """The preset with what was given, at the noise of the model that it is to steer."""
    settings = given_settings(args)
    preset = CLIPS[args.preset]
    transformer = CLIP_FLAGS.apply(preset, settings).trunk is None
    settings = in_latents(args, settings, "clip", "image.channels" if transformer else "trunk.in_channels")
    config, settings = _at_noise(args, CLIP_FLAGS.apply(preset, settings), settings)
    return ChosenConfig(CLIP_FLAGS, config, f"preset {args.preset}", settings)


def config_to_show(args: TrainClip) -> ChosenConfig:
    """The configuration of the CLIP that these flags train, or of that of --init or of the run in --out."""
    if args.resume:
        config, base = load_clip(args.out).config, f"the run in {args.out}"
        check_kept(CLIP_FLAGS, given_settings(args), config)
    elif (begun := _begun(args)) is not None:
        config, base = begun.config, f"--init {args.init}"
    else:
        return choose_config(args)
    return ChosenConfig(CLIP_FLAGS, config, base, {})


def _at_noise(
    args: TrainClip, config: ClipConfig, settings: dict[str, Setting]
) -> tuple[ClipConfig, dict[str, Setting]]:
    """The configuration at the noise of the model to steer. InputError where it does not fit that model."""
    if args.like is None:
        return config, settings

    def check(like: ModelConfig) -> None:
        check_fits("CLIP", config.image_size, config.channels, like.process, like, config.first_stage)

    return at_noise_of(CLIP_FLAGS, config, settings, args.like, check)


def _build(args: TrainClip, config: ClipConfig, data: Dataset) -> NoisyClip:
    context = config.text.context
    if args.vocab is not None:
        tokenizer = Tokenizer.clip(args.vocab, context)
    else:
        tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, context)
    text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=context)
    config = dataclasses.replace(config, text=text)
    check_decided(CLIP_FLAGS, given_settings(args), config)
    clip = NoisyClip(config, tokenizer)
    clip.first_stage = first_stage_for(args, config.first_stage)
    return clip


def _open(args: TrainClip, config: ClipConfig, **options: Any) -> Dataset:
    options |= {**args.reading(args.train.seed), "channels": config.picture_channels}
    data = open_data(args.data, config.picture_size, **options)
    if data.class_names:
        raise InputError(
            f"{args.data} has classes, expected captions: give pictures with a caption each (x.png and x.txt)"
        )
    return WithHardNegatives(data, args.train.seed, args.wrong_captions) if args.wrong_captions else data


def _held_out(args: TrainClip, config: ClipConfig) -> Measure[NoisyClip] | None:
    """Measures on pairs that training never sees; None where nothing is left out."""
    if not (args.held_out or is_generated(args.data)):
        return None
    batch = held_out_batch(_open(args, config, split="held_out"), args.held_out_pairs)
    image, captions, wrong = batch["image"], batch["caption"], batch.get("wrong", ())

    def measured(clip: NoisyClip, timesteps: Sequence[int]) -> Measured:
        levels = retrieval(clip, image, captions, timesteps, getattr(torch, args.train.dtype), wrong)
        pairs = len(captions)
        return Measured(
            levels, f"{pairs} held-out pairs", table(levels), lambda title: plot(levels, pairs, title)
        )

    return measured
