"""The second stage of a command: an upsampler with the settings of the command's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.model_folder import CONFIG
from glide.utils.errors import InputError
from toolkit.commands.sample_flags import Sample
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.upscale import Upscaler
from upsampler.presets import EMBEDDED

BESIDE = "upsampler"
"""A folder in that of a model, with the upsampler that was trained for it."""


def load_upscaler(
    name: str,
    device: str | torch.device,
    dtype: str,
    vocab: str | None = None,
    respacing: str | None = None,
    noise: float = 0.0,
) -> Upscaler:
    """The upsampler of that name. respacing: in place of its default. Names and errors as `Upscaler.load`."""
    upscaler = Upscaler.load(name, device, dtype, vocab)
    settings = upscaler.settings if respacing is None else replace(upscaler.settings, respacing=respacing)
    return replace(upscaler, settings=settings, noise=noise)


def upscaler_of(args: Sample, pipe: Pipeline, recipe: Mapping[str, Any] | None) -> Upscaler | None:
    """The upsampler for --size; None where the pictures have the model's own size.

    recipe: of the picture that --like repeats. InputError for a size that the two models do not draw, an unknown
    upsampler, or one with other weights than the recipe's.
    """
    second, own = args.second, pipe.model.config.picture_size
    if second.size is None or second.size == own:
        return None
    name = second.upsampler
    beside = Path(args.model) / BESIDE
    if name is None and (beside / CONFIG).is_file():
        name = str(beside)
    elif name is None:
        name = Path(args.model).name
        if not (EMBEDDED / name / CONFIG).exists():
            raise InputError(
                f"got --size {second.size} for {args.model}, a model of {own} pixels without an embedded upsampler, "
                f"expected {own}, or the name of one: give --upsampler NAME"
            )
    upscaler = Upscaler.load(name, args.device, args.dtype, second.upsampler_vocab, args.compile)
    if (channels := pipe.model.config.picture_channels) != 3:
        raise InputError(
            f"{args.model} draws pictures of {channels} channels and {name} enlarges RGB ones, which have 3: leave the "
            "upsampler out"
        )
    if second.size != own * upscaler.scale:
        raise InputError(
            f"got --size {second.size}, expected {own} or {own * upscaler.scale}: {args.model} draws {own}, and {name} "
            f"enlarges {upscaler.scale} times"
        )
    settings = second.settings(upscaler.settings, args.guiding)
    upscaler = replace(upscaler, settings=settings, noise=second.upsample_noise)
    upscaler.pipe.steps(settings)
    if recipe is not None and "upsampler" in recipe:
        upscaler.check_weights(upscaler.pipe.name, recipe["upsampler"], str(args.like))
    return upscaler
