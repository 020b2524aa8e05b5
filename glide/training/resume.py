"""Compare a resumed run's flags with the original ones; reject incompatible changes."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from glide.utils.errors import InputError

_IGNORED_FLAGS = (
    "out",
    "resume",
    "overwrite",
    "device",
    "workers",
    "dry_run",
    "config",
    "show_config",
    "model",
)
"""Flags that may change without a message; those of the model are compared with the model itself
(`glide.training.model_config`)."""


@dataclass(frozen=True)
class RunFlags:
    """A run's flags by their dotted names, JSON-able."""

    values: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    frozen: Collection[str] = ()
    """Flags of the contents of the run's folder (its sizes, its tokenizer): they can be left out when a run is resumed,
    but not changed."""
    state: Collection[str] = ()
    """Flags that determine the optimizer's and the averages' state: they must be given again."""

    @classmethod
    def of(cls, args: Any, frozen: Collection[str] = (), state: Collection[str] = ()) -> RunFlags:
        """Make them from the dataclass of a script's flags, whose only required argument is `out`."""
        return cls(flatten(args), flatten(type(args)(out=args.out)), frozen, state)


def flatten(args: Any) -> dict[str, Any]:
    """A dataclass of dataclasses as one table, {"train.optim.lr": 0.001}, with values that JSON lacks as their text."""
    found: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if name in _IGNORED_FLAGS:
                continue
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value

    walk(jsonable(dataclasses.asdict(args)), "")
    return found


def changes(old: Mapping[str, Any], new: RunFlags) -> list[str]:
    """A line for each changed flag: "--lr 0.001, before 0.0001". InputError for a change that is not possible."""
    lines = []
    for name, value in new.values.items():
        if name not in old or (before := old[name]) == value:
            continue
        flag = f"--{name.rsplit('.', 1)[-1].replace('_', '-')}"
        here, there = format_value(value), format_value(before)
        if name in new.frozen:
            if value != new.defaults.get(name):
                raise InputError(
                    f"{flag} {here}: this run has {there}, which cannot change on the way; leave the flag out, or "
                    "begin another run with --init"
                )
            continue
        if name in new.state or (name.endswith("muon_lr") and bool(value) != bool(before)):
            raise InputError(
                f"{flag} {here}: this run has {there}, and its state holds nothing for another; give that one, or "
                "begin another run with --init"
            )
        lines.append(f"{flag} {here}, before {there}")
    return lines


def format_value(value: Any) -> str:
    """Format a value as on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a training record keeps them, with values that JSON lacks as their text."""
    return json.loads(json.dumps(values, default=str))
