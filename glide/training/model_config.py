"""The configuration of the model to train: a preset or the model of --init, then --config FILE, then flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glide.checkpoints.first_stages import first_stage_named
from glide.checkpoints.image_encoders import image_encoder_named
from glide.data.conditions import ConditionArgument
from glide.data.datasets import Dataset
from glide.networks.config import ModelConfig
from glide.networks.frozen_text_config import is_folder, read_name
from glide.networks.inner_head import middle_factor
from glide.networks.picture_conditions import condition_named
from glide.networks.presets import PRESETS, preset
from glide.training.given_settings import ChosenConfig, read_settings, settings_of_first_stage
from glide.training.train_base_flags import MODEL_FLAGS, TrainBase
from glide.utils.channels import check_channels
from glide.utils.config_flags import Setting
from glide.utils.errors import InputError


def _draws(config: ModelConfig) -> ModelConfig:
    """A base model's configuration as it is. InputError for an upsampler's."""
    if config.low_res:
        raise InputError(
            "got low_res, a model that enlarges pictures, expected one that draws: use scripts/train_upsampler.py"
        )
    return config


@dataclass(frozen=True)
class ModelKind:
    """The differences between the training of one kind of model, base or upsampler, and that of another."""

    presets: Mapping[str, ModelConfig] = field(default_factory=lambda: PRESETS)
    default: str = "shapes-64"
    """The preset where none is asked for."""
    config: Callable[[ModelConfig], ModelConfig] = _draws
    """Completes the configuration that a run begins with. InputError for that of another kind."""
    data: Callable[[Dataset, ModelConfig], Dataset] = lambda data, config: data
    """Wraps the data set, whose pictures have the model's own size."""
    places: tuple[Path, ...] = ()
    """Folders with embedded models of this kind, which --init looks through first."""
    draws: bool = True
    """False for upsamplers."""


BASE = ModelKind()


def given_settings(args: TrainBase) -> dict[str, Setting]:
    """The settings of --config and of the flags, which come before it. InputError for those that cannot be."""
    short: dict[str, Setting] = {}
    if args.channels is not None:
        check_channels(args.channels, "--channels")
        short["unet.in_channels"] = Setting(args.channels, "--channels")
    if args.dropout is not None:
        short["unet.dropout"] = Setting(args.dropout, "--dropout")
    if args.self_condition:
        short["unet.self_condition"] = Setting(True, "--self-condition")
    if args.text_encoder is not None:
        flag, (encoder, place) = "--text-encoder", read_name(args.text_encoder)
        name = (
            Path(place).expanduser().resolve().name if is_folder(place) else place
        )  # no place of this machine
        short |= {"model.text": Setting(False, flag), "text_encoder.kind": Setting(encoder, flag)}
        short["text_encoder.source"] = Setting(name, flag)
    if args.embed_encoder:
        short["text_encoder.embedded"] = Setting(True, "--embed-encoder")
    if args.condition:
        specs = tuple(ConditionArgument.parse(text).spec for text in args.condition)
        for spec in specs:
            condition_named(spec)  # an argument that it cannot have is refused here
        short["model.conditions"] = Setting(specs, "--condition")
        short["model.null_condition"] = Setting(args.null_conditions > 0, "--null-conditions")
    if args.image_encoder is not None:
        short |= settings_of_image_encoder(args.image_encoder, args.null_conditions > 0)
    if args.augment:
        short["model.augmentation"] = Setting(True, "--augment")
    if args.inpaint:
        short["model.inpaint"] = Setting(True, "--inpaint")
    short |= first_stage_settings(args)
    return read_settings(MODEL_FLAGS, args.config, args.model, short)


def settings_of_image_encoder(name: str, null: bool) -> dict[str, Setting]:
    """The settings of a model that is conditioned on the embeddings of that encoder. InputError where it is none.

    null: they are left out of some examples.
    """
    flag, config = "--image-encoder", image_encoder_named(name)[0]
    found = {
        f"image_encoder.{key}": Setting(value, flag) for key, value in dataclasses.asdict(config).items()
    }
    found["model.null_condition"] = Setting(null, "--null-conditions")
    return {"model.image_encoder": Setting(True, flag), **found}


def first_stage_settings(args: TrainBase) -> dict[str, Setting]:
    """The settings that follow from --first-stage. InputError where it cannot be read, or --channels is given too."""
    if args.first_stage is None:
        return {}
    if args.channels is not None:
        raise InputError(
            "got --channels with --first-stage, which has its own, expected one of them: leave --channels out"
        )
    stage, source = first_stage_named(args.first_stage), f"--first-stage {args.first_stage}"
    channels = {"unet.in_channels": Setting(stage.autoencoder.latent_channels, source)}
    return settings_of_first_stage(stage.config, "model", source) | channels


def choose_config(args: TrainBase, source: ModelConfig | None, kind: ModelKind = BASE) -> ChosenConfig:
    """The configuration of a new run. source: of --init. InputError for settings that give no model."""
    name = args.preset or (kind.default if source is None else None)
    if name is not None:
        base, origin = preset(name, kind.presets), f"preset {name}"
    else:
        assert source is not None
        base, origin = (
            dataclasses.replace(source, inpaint=False, augmentation=False),
            f"--init {args.init}",
        )  # unless by --inpaint and --augment
    settings = _with_inner_head(base, _with_outputs(base, given_settings(args)), args.inner_head)
    base = _with_text_encoder(base, source, settings)
    if args.text_encoder is not None and is_folder(place := read_name(args.text_encoder)[1]):
        settings["text_encoder.path"] = Setting(place, "--text-encoder")
    config = kind.config(MODEL_FLAGS.apply(base, settings))
    check_channels(config.picture_channels, "unet.in_channels")
    return ChosenConfig(MODEL_FLAGS, config, origin, settings)


def _with_text_encoder(
    base: ModelConfig, source: ModelConfig | None, settings: dict[str, Setting]
) -> ModelConfig:
    """The frozen encoder of --init goes on, unless --text-encoder gives another; nothing of one remains in another."""
    if "text_encoder.source" not in settings:
        kept = source is not None and source.text_encoder is not None
        return dataclasses.replace(base, text=None, text_encoder=source.text_encoder) if kept else base  # type: ignore[union-attr]
    old = base.text_encoder
    asked = settings["text_encoder.kind"].value, settings["text_encoder.source"].value
    return (
        base
        if old is None or (old.kind, old.source) == asked
        else dataclasses.replace(base, text_encoder=None)
    )


def _with_inner_head(base: ModelConfig, settings: dict[str, Setting], asked: bool) -> dict[str, Setting]:
    """The settings with the inner head of --inner-head, at the middle level unless they say which."""
    if not asked or settings.get("unet.inner_head", Setting(0, "")).value:
        return settings
    levels = settings.get("unet.channel_mult", Setting(base.unet.channel_mult, "")).value
    factor = base.unet.inner_head or middle_factor(len(levels))
    if not factor:
        raise InputError(
            "got --inner-head for a U-Net of one level, expected two or more: leave it out, or give --unet.channel-mult"
        )
    return {**settings, "unet.inner_head": Setting(factor, "--inner-head")}


def _with_outputs(base: ModelConfig, settings: dict[str, Setting]) -> dict[str, Setting]:
    """The settings with the U-Net's output channels, where input channels or variance are given and they are not."""
    asked = settings.keys() & {"unet.in_channels", "process.variance"}
    if not asked or "unet.out_channels" in settings:
        return settings
    outputs = base.unet.out_channels // base.unet.in_channels
    if "process.variance" in settings:
        outputs = 2 if settings["process.variance"].value == "learned" else 1
    channels = settings["unet.in_channels"].value if "unet.in_channels" in settings else base.unet.in_channels
    source = f"follows {' and '.join(sorted(settings[key].source for key in asked))}"
    return {**settings, "unet.out_channels": Setting(channels * outputs, source)}
