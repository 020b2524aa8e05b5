"""A configuration's fields as flags of a command line and as keys of a TOML file, on top of a preset.

Each field of the configuration has a dotted key: `unet.channels` for a field of a configuration inside it, and
`model.scale` for a field of the configuration itself, which is called `model` here. The flag is `--unet.channels 64`,
and the file has `channels = 64` in its table `[unet]`. A configuration that may be missing has a key of its own:
`--model.text false`. Types, ranges and choices come from the dataclass (`glide.utils.config_check`).
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Generic, Literal

from glide.utils.config_check import C, config_from_dict, read_value
from glide.utils.errors import InputError, one_line
from glide.utils.filesystem import read_bytes
from glide.utils.numbers import ANY, Range, shown_number

MAX_FILE = 2**20
"""Bytes of the largest configuration file that is read."""


@dataclass(frozen=True)
class Setting:
    """A value that was given for a key, and where: a flag, or a file."""

    value: Any
    source: str
    """As `--show-config` prints it: "--unet.channels", or the file's name."""


@dataclass(frozen=True)
class ConfigFlags(Generic[C]):
    """The flags and file keys of one configuration class."""

    cls: type[C]
    name: str
    """The table of the class's own fields, such as "model"."""
    decided: Mapping[str, str] = field(default_factory=dict)
    """Keys whose value follows from something else, and from what: "model.num_classes": "the data"."""

    @cached_property
    def hints(self) -> dict[str, Any]:
        """The type hint of every key, in the order of the fields; bool for a configuration that may be missing."""
        own: dict[str, Any] = {}
        inner: dict[str, Any] = {}
        for name, hint in typing.get_type_hints(self.cls, include_extras=True).items():
            config, optional = _config_in(hint)
            if config is None or optional:
                own[f"{self.name}.{name}"] = hint if config is None else bool
            if config is not None:
                for key, sub in typing.get_type_hints(config, include_extras=True).items():
                    inner[f"{name}.{key}"] = sub
        return own | inner

    @cached_property
    def tables(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(key.partition(".")[0] for key in self.hints))

    def take(self, argv: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """A command line without the flags of the configuration, and their values by key.

        InputError, in one sentence, for an unknown flag of one of the tables, and for a value that the field cannot
        have.
        """
        rest: list[str] = []
        found: dict[str, Any] = {}
        words = list(argv)
        while words:
            word, equals, value = words.pop(0).partition("=")
            key = word.removeprefix("--").replace("-", "_")
            if not word.startswith("--") or "." not in key or key.partition(".")[0] not in self.tables:
                rest.append(word + equals + value)
                continue
            if key not in self.hints:
                raise InputError(
                    f"got {word}, which is no setting, expected {self._nearest(key)}: see --show-config"
                )
            hint = self.hints[key]
            values = [value] if equals else list(_values(hint, words))
            found[key] = read_value(hint, _from_words(hint, values, word), word)
        return rest, found

    def given(self, values: Mapping[str, Any]) -> dict[str, Setting]:
        """Values that were given by flags, or from Python, by key. InputError for those that a field cannot have."""
        found: dict[str, Setting] = {}
        for key, value in values.items():
            if key not in self.hints:
                raise InputError(
                    f"got the unknown setting {key!r}, expected {self._nearest(key)[2:]}: correct it"
                )
            found[key] = Setting(read_value(self.hints[key], value, flag_of(key)), flag_of(key))
        return found

    def read_file(self, path: Path) -> dict[str, Setting]:
        """The settings of a TOML file by key. InputError, naming file and key, for what cannot be read or is unfit."""
        found: dict[str, Setting] = {}
        for table, values in _toml(path).items():
            if table not in self.tables or not isinstance(values, Mapping):
                expected = " or ".join(f"[{name}]" for name in self.tables)
                raise InputError(
                    f"{path}: got {table!r} at the top, expected the tables {expected}: put it into one"
                )
            for name, value in values.items():
                key = f"{table}.{name}"
                if key not in self.hints:
                    raise InputError(
                        f"{path}: got the unknown setting {key!r}, expected {self._nearest(key)[2:]}"
                    )
                try:
                    found[key] = Setting(read_value(self.hints[key], value, key), str(path))
                except InputError as error:
                    raise InputError(f"{path}: {error}") from None
        return found

    def apply(self, base: C, settings: Mapping[str, Setting]) -> C:
        """The configuration with these settings. InputError for those that do not fit each other."""
        if not settings:
            return base
        values = dataclasses.asdict(typing.cast(Any, base))
        # a part is switched on or off before its own fields are set
        for key in sorted(settings, key=lambda key: not key.startswith(f"{self.name}.")):
            value = settings[key].value
            table, _, name = key.partition(".")
            if table != self.name:
                if values[table] is None:
                    if (off := settings.get(f"{self.name}.{table}")) is not None and not off.value:
                        raise InputError(
                            f"got {key} {shown_number(value)} with {self.name}.{table} false, expected one or the "
                            "other: leave one out"
                        )
                    values[table] = dataclasses.asdict(self._part(table)())
                values[table][name] = value
            elif _config_in(self._hint(name))[0] is None:
                values[name] = value
            elif not value:
                values[name] = None
            elif values[name] is None:
                values[name] = dataclasses.asdict(self._part(name)())
        return config_from_dict(self.cls, values, self.name)

    def values(self, config: C) -> dict[str, Any]:
        """Every key's value in a configuration, without those of a part that is missing."""
        found: dict[str, Any] = {}
        for key in self.hints:
            table, _, name = key.partition(".")
            part = config if table == self.name else getattr(config, table)
            if part is not None:
                value = getattr(part, name)
                optional = table == self.name and _config_in(self._hint(name))[0] is not None
                found[key] = value is not None if optional else value
        return found

    def shown(self, config: C, sources: Mapping[str, str], base: str) -> str:
        """The whole configuration as TOML that `read_file` reads, with the source of each value in a comment.

        sources: of the keys that were given. base: the source of other values that are not the class's defaults, such
        as "preset tiny". Keys of `decided` that were not given are comments.
        """
        lines: list[str] = []
        table = ""
        for key, value in self.values(config).items():
            if (at := key.partition(".")[0]) != table:
                table = at
                lines += [*([""] if lines else []), f"[{table}]"]
            source = sources.get(key) or ("default" if value == self._default(key) else base)
            line = f"{key.partition('.')[2]} = {_in_toml(value)}"
            if key in self.decided and key not in sources:
                line, source = f"# {line}", f"set by {self.decided[key]}"
            lines.append(f"{line}  # {source}")
        return "\n".join(lines)

    def usage(self) -> str:
        """The flags, for --help: a line for each table."""
        names: dict[str, list[str]] = {table: [] for table in self.tables}
        for key in self.hints:
            table, _, name = key.partition(".")
            names[table].append(name.replace("_", "-"))
        lines = [
            f"  {flag_of(table)}.NAME, NAME one of: {', '.join(found)}" for table, found in names.items()
        ]
        return "\n".join(
            ["every setting of the configuration, on top of the preset and --config FILE:", *lines]
        )

    def _hint(self, name: str) -> Any:
        return typing.get_type_hints(self.cls, include_extras=True)[name]

    def _part(self, name: str) -> type[Any]:
        config, _ = _config_in(self._hint(name))
        assert config is not None
        return config

    def _default(self, key: str) -> Any:
        """The value of a key that no configuration changes; that of a part which may be missing is False."""
        table, _, name = key.partition(".")
        owner: type[Any] = self.cls if table == self.name else self._part(table)
        found = next(one for one in dataclasses.fields(owner) if one.name == name)
        if found.default is not dataclasses.MISSING:
            return found.default if found.default is not None else False
        assert found.default_factory is not dataclasses.MISSING
        return found.default_factory()

    def _nearest(self, key: str) -> str:
        near = difflib.get_close_matches(key, self.hints, 1, 0.5) or [next(iter(self.hints))]
        return flag_of(near[0])


def flag_of(key: str) -> str:
    """The flag of a key: --unet.channel-mult of unet.channel_mult."""
    return "--" + key.replace("_", "-")


def _config_in(hint: Any) -> tuple[type[Any] | None, bool]:
    """The configuration class of a field, if it has one, and True if it may be missing."""
    inner, optional = hint, False
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        inner, optional = next(arg for arg in typing.get_args(hint) if arg is not type(None)), True
    return (typing.cast("type[Any]", inner), optional) if dataclasses.is_dataclass(inner) else (None, False)


def _plain(hint: Any) -> tuple[Any, Range]:
    """A hint without its annotations, and the range among them."""
    if typing.get_origin(hint) is not Annotated:
        return hint, ANY
    inner, *marks = typing.get_args(hint)
    return inner, next((mark for mark in marks if isinstance(mark, Range)), ANY)


def _values(hint: Any, words: list[str]) -> Iterator[str]:
    """Take the values of a flag from the words after it: all up to the next flag.

    InputError for a second one where the flag has one value: it would join those of the flag before.
    """
    several = typing.get_origin(_plain(hint)[0]) is tuple
    taken = 0
    while words and not words[0].startswith("-"):
        if taken and not several:
            raise InputError(f"got {words[0]!r}, expected a flag before it: see --help")
        yield words.pop(0)
        taken += 1


def _from_words(hint: Any, values: Sequence[str], flag: str) -> Any:
    """The value of a flag from its words. InputError for a missing value and for text of another kind."""
    plain, allowed = _plain(hint)
    if typing.get_origin(plain) is tuple:
        return [_from_text(typing.get_args(plain)[0], allowed, value, flag) for value in values]
    if plain is bool and not values:
        return True
    if not values:
        raise InputError(f"got {flag} without its value, expected one after it: give it")
    return _from_text(plain, allowed, values[0], flag)


def _from_text(kind: Any, allowed: Range, text: str, flag: str) -> Any:
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        return next((choice for choice in choices if str(choice) == text), text)
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is int:
        return allowed.read_whole(text, flag)
    return allowed.read_real(text, flag) if kind is float else text


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(read_bytes(path, MAX_FILE).decode("utf-8"))
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, a number of too many digits
        raise InputError(f"{path} is no TOML file ({one_line(error)}): correct it") from None


def _in_toml(value: Any) -> str:
    """A value as TOML has it, whose texts without control characters are those of JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_in_toml, value))}]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
