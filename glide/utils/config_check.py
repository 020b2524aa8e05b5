"""Validate configurations from files: types, ranges and sizes, before anything is built from them.

The fields of a configuration's dataclass declare their type, `Literal` choices, a `Range` of numbers, and `Entries` of
a list. Its optional method `check` validates combinations of fields.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from glide.utils.errors import InputError, one_line
from glide.utils.json_files import kind_of
from glide.utils.numbers import ANY, Range, shown_number

if TYPE_CHECKING:
    from torch import nn

M = TypeVar("M", bound="nn.Module")


@dataclass(frozen=True)
class Entries:
    """The limit on the entries of a list in a configuration."""

    limit: int


DEFAULT_ENTRIES = Entries(64)


class Config(Protocol):
    """A dataclass of settings."""

    @property
    def __dataclass_fields__(self) -> dict[str, Any]: ...


C = TypeVar("C", bound=Config)


def config_from_dict(cls: type[C], values: Any, where: str) -> C:
    """The inverse of `dataclasses.asdict` for configurations, nested ones too, also after a trip through JSON.

    where: its name in messages. InputError on unknown fields, on values of another type or out of range, and on values
    that do not fit together.
    """
    if not isinstance(values, Mapping):
        raise InputError(
            f"{where}: got {kind_of(values)}, expected a table of settings; the config is damaged."
        )
    hints = typing.get_type_hints(cls, include_extras=True)
    unknown = sorted(set(values) - set(hints))
    if unknown:
        raise InputError(f"{where}: unknown setting {unknown[0]!r}; known are {', '.join(hints)}.")
    config = cls(
        **{name: read_value(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    )
    check = getattr(config, "check", None)
    if check is not None:
        check()
    return config


def checked(config: C, where: str) -> C:
    """A configuration that was made in Python, after the checks of `config_from_dict`."""
    values = dataclasses.asdict(typing.cast(Any, config))
    return config_from_dict(type(config), values, where)


def read_value(
    hint: Any, value: Any, name: str, allowed: Range = ANY, entries: Entries = DEFAULT_ENTRIES
) -> Any:
    """Convert a value of a JSON file to the type `hint` of its field. InputError if it does not fit."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        allowed = next((a for a in args[1:] if isinstance(a, Range)), allowed)
        entries = next((a for a in args[1:] if isinstance(a, Entries)), entries)
        return read_value(args[0], value, name, allowed, entries)
    if origin in (types.UnionType, typing.Union):
        (inner,) = [a for a in args if a is not type(None)]
        return None if value is None else read_value(inner, value, name, allowed, entries)
    if origin is Literal:
        if value not in args or isinstance(value, bool):
            raise _wrong(name, value, f"one of {', '.join(map(repr, args))}")
        return value
    if origin is tuple:
        return _read_tuple(args[0], value, name, allowed, entries)
    if dataclasses.is_dataclass(hint):
        return config_from_dict(typing.cast("type[Any]", hint), value, name)
    if hint is int:
        return allowed.whole(value, name, _DO)
    if hint is float:
        number = allowed.real(value, name, _DO)
        return (
            value if isinstance(value, int) else number
        )  # 1 stays 1, so that the config is written unchanged
    if not isinstance(value, hint):
        raise _wrong(name, value, {bool: "true or false", str: "a text"}.get(hint, hint.__name__))
    return value


def _read_tuple(hint: Any, value: Any, name: str, allowed: Range, entries: Entries) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise _wrong(name, value, "a list")
    if len(value) > entries.limit:
        raise InputError(f"got {name} with {len(value)} entries, expected at most {entries.limit}: {_DO}")
    return tuple(read_value(hint, entry, f"{name}[{i}]", allowed) for i, entry in enumerate(value))


def need(fits: object, requirement: str) -> None:
    """InputError with a requirement on a configuration that it does not fulfil."""
    if not fits:
        raise InputError(f"{requirement}: {_DO}")


def blank(make: Callable[[], M], where: str) -> M:
    """The module of a configuration on the meta device: without initialisation or memory, as a file has every weight.

    where: the configuration's file, for the message. InputError if no module can be built.
    """
    import torch

    try:
        with torch.device("meta"):
            return make()
    except Exception as error:  # sizes that do not match fail in PyTorch in many ways
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{where} describes no model that can be built: {reason}") from error


_DO = "correct it"


def _wrong(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"got {name} {shown_number(value)}, expected {expected}: {_DO}")
