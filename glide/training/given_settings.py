"""Settings of a configuration that a run was given: read them, compare them with those it has, show all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from glide.networks.config import FirstStageConfig
from glide.training.resume import format_value
from glide.utils.config_flags import ConfigFlags, Setting
from glide.utils.errors import InputError

Settings = Mapping[str, Setting]
"""Settings that were given by flags or a file, by key."""


def read_settings(
    flags: ConfigFlags[Any], file: Path | None, values: Mapping[str, Any], short: Settings
) -> dict[str, Setting]:
    """The settings of a --config file and of the flags, which come before it.

    values: of the flags, by key. short: of other flags that stand for a setting, such as --dropout. InputError for a
    value that a setting cannot have, and for two flags of one setting that disagree.
    """
    given = flags.given(values)
    for key in short.keys() & given.keys():
        if short[key].value != given[key].value:
            raise InputError(
                f"got both {short[key].source} and {given[key].source} {written(given[key].value)}, expected one of "
                "them: leave one out"
            )
    from_file = flags.read_file(file) if file is not None else {}
    return {**from_file, **short, **given}


def settings_of_first_stage(config: FirstStageConfig, owner: str, source: str) -> dict[str, Setting]:
    """The settings of a configuration with that first stage. owner: the table of its own fields, such as "model"."""
    found = {f"first_stage.{name}": value for name, value in dataclasses.asdict(config).items()}
    return {key: Setting(value, source) for key, value in {f"{owner}.first_stage": True, **found}.items()}


def decided_by_first_stage(owner: str) -> dict[str, str]:
    """The same keys, for `ConfigFlags.decided`."""
    return dict.fromkeys(settings_of_first_stage(FirstStageConfig(), owner, ""), "--first-stage")


@dataclass(frozen=True)
class ChosenConfig:
    """A configuration before the data is known, and where its values come from."""

    flags: ConfigFlags[Any]
    config: Any
    base: str
    """The source of values that were not given: "preset tiny", "--init runs/one"."""
    settings: Settings

    def as_toml(self) -> str:
        """The whole configuration with the source of each value, as `--config` reads it."""
        sources = {key: setting.source for key, setting in self.settings.items()}
        return self.flags.shown(self.config, sources, self.base)


def check_decided(flags: ConfigFlags[Any], settings: Settings, config: Any) -> None:
    """InputError for a setting that something else decides, the data for example, where that decided otherwise."""
    found = flags.values(config)
    for key, setting in settings.items():
        if key in flags.decided and key in found and not _same(setting.value, found[key]):
            raise InputError(
                f"got {named(key, setting)} {written(setting.value)}, expected {written(found[key])}, which "
                f"{flags.decided[key]} set: leave it out"
            )


def check_kept(
    flags: ConfigFlags[Any],
    settings: Settings,
    config: Any,
    owner: str = "this run",
    do: str = "or begin another run with --init",
) -> None:
    """InputError for a setting that is not the one of `owner`, whose configuration is kept as it is."""
    found = flags.values(config)
    for key, setting in settings.items():
        if not _same(setting.value, found.get(key)):
            before = "no such part" if key not in found else written(found[key])
            raise InputError(
                f"{named(key, setting)} {written(setting.value)}: {owner} has {before}, which cannot change on the "
                f"way; leave it out, {do}"
            )


def named(key: str, setting: Setting) -> str:
    """A setting in a message: its flag, or its key and its file."""
    return setting.source if setting.source.startswith("--") else f"{key} of {setting.source}"


def written(value: object) -> str:
    """A value as on a command line."""
    return str(value).lower() if isinstance(value, bool) else format_value(value)


def _same(one: object, other: object) -> bool:
    return (list(one) if isinstance(one, tuple) else one) == (
        list(other) if isinstance(other, tuple) else other
    )
