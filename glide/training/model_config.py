"""The configuration of the model to train: a preset or the model of --init, then --config FILE, then flags."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from glide.data.datasets import Dataset
from glide.networks.config import ModelConfig
from glide.networks.presets import PRESETS, preset
from glide.training.resume import shown
from glide.training.train_base_flags import MODEL_FLAGS, TrainBase
from glide.utils.channels import check_channels
from glide.utils.config_flags import Setting
from glide.utils.errors import InputError

Settings = Mapping[str, Setting]
"""Settings that were given by flags or a file, by key."""


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


BASE = ModelKind()


@dataclass(frozen=True)
class ChosenConfig:
    """A model's configuration before the data is known, and where its values come from."""

    config: ModelConfig
    base: str
    """The source of values that were not given: "preset tiny", "--init runs/one"."""
    settings: Settings

    def as_toml(self) -> str:
        """The whole configuration with the source of each value, as `--config` reads it."""
        sources = {key: setting.source for key, setting in self.settings.items()}
        return MODEL_FLAGS.shown(self.config, sources, self.base)


def given_settings(args: TrainBase) -> dict[str, Setting]:
    """The settings of --config and of the flags, which come before it. InputError for those that cannot be."""
    flags = MODEL_FLAGS.given(args.model)
    short: dict[str, Setting] = {}
    if args.channels is not None:
        check_channels(args.channels, "--channels")
        short["unet.in_channels"] = Setting(args.channels, "--channels")
    if args.dropout is not None:
        short["unet.dropout"] = Setting(args.dropout, "--dropout")
    if args.self_condition:
        short["unet.self_condition"] = Setting(True, "--self-condition")
    if args.inpaint:
        short["model.inpaint"] = Setting(True, "--inpaint")
    for key in short.keys() & flags.keys():
        if short[key].value != flags[key].value:
            raise InputError(
                f"got both {short[key].source} and {flags[key].source} {_written(flags[key].value)}, expected one of "
                "them: leave one out"
            )
    from_file = MODEL_FLAGS.read_file(args.config) if args.config is not None else {}
    return {**from_file, **short, **flags}


def choose_config(args: TrainBase, source: ModelConfig | None, kind: ModelKind = BASE) -> ChosenConfig:
    """The configuration of a new run. source: of --init. InputError for settings that give no model."""
    name = args.preset or (kind.default if source is None else None)
    if name is not None:
        base, origin = preset(name, kind.presets), f"preset {name}"
        # weights that inpaint already go on to
        base = dataclasses.replace(base, inpaint=base.inpaint or (source is not None and source.inpaint))
    else:
        assert source is not None
        base, origin = source, f"--init {args.init}"
    settings = _with_outputs(base, given_settings(args))
    config = kind.config(MODEL_FLAGS.apply(base, settings))
    check_channels(config.unet.in_channels, "unet.in_channels")
    return ChosenConfig(config, origin, settings)


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


def check_decided(settings: Settings, config: ModelConfig) -> None:
    """InputError for a setting that something else decides, the data for example, where that decided otherwise."""
    found = MODEL_FLAGS.values(config)
    for key, setting in settings.items():
        if key in MODEL_FLAGS.decided and key in found and not _same(setting.value, found[key]):
            raise InputError(
                f"got {_named(key, setting)} {_written(setting.value)}, expected {_written(found[key])}, which "
                f"{MODEL_FLAGS.decided[key]} set: leave it out"
            )


def check_resumed(settings: Settings, config: ModelConfig) -> None:
    """InputError for a setting that is not the one of the run that goes on, whose configuration this is."""
    found = MODEL_FLAGS.values(config)
    for key, setting in settings.items():
        if not _same(setting.value, found.get(key)):
            before = "no such part" if key not in found else _written(found[key])
            raise InputError(
                f"{_named(key, setting)} {_written(setting.value)}: this run has {before}, which cannot change on the "
                "way; leave it out, or begin another run with --init"
            )


def _named(key: str, setting: Setting) -> str:
    """A setting in a message: its flag, or its key and its file."""
    return setting.source if setting.source.startswith("--") else f"{key} of {setting.source}"


def _written(value: object) -> str:
    """A value as on a command line."""
    return str(value).lower() if isinstance(value, bool) else shown(value)


def _same(one: object, other: object) -> bool:
    return (list(one) if isinstance(one, tuple) else one) == (
        list(other) if isinstance(other, tuple) else other
    )
