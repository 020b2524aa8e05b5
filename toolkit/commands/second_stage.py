"""The second stage of a command: an upsampler with the settings of the command's flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.fetch_published import DIFFUSION, fetch_together
from glide.checkpoints.load import read_model_config
from glide.checkpoints.model_folder import CONFIG
from glide.checkpoints.model_parts import with_part
from glide.checkpoints.names import published_model
from glide.networks.picture_sizes import default_size, multiple_of, size_to_draw, trained_sizes
from glide.utils.errors import InputError
from glide.utils.picture_size import Size, check_multiple, is_plain, parse_size, recorded_size, size_text
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


LARGE = 2.0
"""Times the model's own size, as the root of their areas, from which on a size is one for an embedded upsampler."""


def stages_of(
    args: Sample, pipe: Pipeline, recipe: Mapping[str, Any] | None
) -> tuple[Size | None, Upscaler | None]:
    """The size (H, W) that the model draws for --size, None for its default, and the upsampler that enlarges it.

    A size of the training is the model's. Another square that is given by one number is the upsampler's. Any other size
    is the model's, too, unless an upsampler is named, or it is LARGE and there is an embedded one. recipe: of the
    picture that --like repeats. InputError for a size that the two models do not draw, an unknown upsampler, or one
    with other weights than the recipe's.
    """
    second, config = args.second, pipe.model.config
    if second.size is None:
        return None, None
    size, own = parse_size(second.size), default_size(config)
    if size in trained_sizes(config):
        return (None if size == own else size), None
    plain, name = is_plain(second.size), second.upsampler
    if name is None and (plain or _is_large(size, own)):
        name = _usual_upsampler(pipe.name)
    if name is None and not plain:
        return size_to_draw(config, size), None
    if name is None:
        raise InputError(
            f"got --size {second.size} for {args.model}, a model of {_words(own)} without an embedded upsampler, "
            f"expected {recorded_size(own)}, or the name of one: give --upsampler NAME, or write "
            f"{second.size}x{second.size} to draw at that size"
        )
    upscaler = _loaded(args, name, pipe, recipe)
    scale = upscaler.scale
    small = (size[0] // scale, size[1] // scale)
    _check_enlarged(args, own, name, scale)
    check_multiple(size, scale * multiple_of(config), of=f"{args.model} below {name}")
    return size_to_draw(config, small, f"--size {second.size}, of which {args.model} draws"), upscaler


def fetch_stages(args: Sample) -> None:
    """Fetch a published model and the published upsampler that --size asks for, so that one line says how large all is.

    Anything else is left to where it is loaded. InputError for a size that the two do not draw, before anything is
    fetched, and where they cannot be fetched.
    """
    model, second = published_model(args.model), args.second
    if model is None or second.size is None:
        return
    config, size = read_model_config(args.model), parse_size(second.size)
    enlarges = second.upsampler or is_plain(second.size) or _is_large(size, default_size(config))
    upsampler = published_model(second.upsampler or model.upsampler or "")
    if upsampler is None or not enlarges or size in trained_sizes(config):
        return
    _check_enlarged(args, default_size(config), upsampler.name, read_model_config(upsampler.name).scale)
    fetch_together([model, upsampler], DIFFUSION)


def _check_enlarged(args: Sample, own: Size, name: str, scale: int) -> None:
    """InputError for a square of --size that is not `scale` times that of the model."""
    assert args.second.size is not None
    large = (own[0] * scale, own[1] * scale)
    if is_plain(args.second.size) and own[0] == own[1] and parse_size(args.second.size) != large:
        raise InputError(
            f"got --size {args.second.size}, expected {recorded_size(own)} or {recorded_size(large)}: {args.model} "
            f"draws {recorded_size(own)}, and {name} enlarges {scale} times"
        )


def _usual_upsampler(model: str) -> str | None:
    """The upsampler in a model's folder, or the embedded or published one of its name; None where there is none.

    Of the hub and of a zip it bears the model's name, so that recipes name no folder of a cache.
    """
    beside = Path(model) / BESIDE
    if (beside / CONFIG).is_file():
        return str(beside)
    if (published := published_model(model)) is not None:
        return published.upsampler
    if with_part(model, BESIDE) is not None:
        return model
    return Path(model).name if (EMBEDDED / Path(model).name / CONFIG).exists() else None


def _is_large(size: Size, own: Size) -> bool:
    return size[0] * size[1] > LARGE**2 * own[0] * own[1]


def _words(own: Size) -> str:
    return f"{own[0]} pixels" if own[0] == own[1] else size_text(own)


def _loaded(args: Sample, name: str, pipe: Pipeline, recipe: Mapping[str, Any] | None) -> Upscaler:
    """The upsampler of that name with the settings of the flags. Errors as `stages_of`."""
    second = args.second
    upscaler = Upscaler.load(name, args.device, args.dtype, second.upsampler_vocab, args.compile)
    if (channels := pipe.model.config.picture_channels) != 3:
        raise InputError(
            f"{args.model} draws pictures of {channels} channels and {name} enlarges RGB ones, which have 3: leave the "
            "upsampler out"
        )
    settings = second.settings(upscaler.settings, args.guiding)
    upscaler = replace(upscaler, settings=settings, noise=second.upsample_noise)
    upscaler.pipe.steps(settings)
    if recipe is not None and "upsampler" in recipe:
        upscaler.check_weights(upscaler.pipe.name, recipe["upsampler"], str(args.like))
    return upscaler
