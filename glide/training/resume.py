"""What has changed in a run's settings when it goes on, and what of that cannot be."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from glide.utils.errors import InputError

_NOT_OF_THE_RUN = (
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
"""Flags that may change without a word; those of the model are compared with the model itself
(`glide.training.model_config`)."""


@dataclass(frozen=True)
class RunFlags:
    """A run's flags by their dotted names, as JSON knows them."""

    values: Mapping[str, Any] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    kept: Collection[str] = ()
    """Flags of what the run's folder holds by now (its sizes, its tokenizer): one that is left out changes nothing, but
    another value cannot be had."""
    bound: Collection[str] = ()
    """Flags that the optimizer's and the averages' state depends on: they must be given again."""

    @classmethod
    def of(cls, args: Any, kept: Collection[str] = (), bound: Collection[str] = ()) -> RunFlags:
        """Of the dataclass of a script's flags, which needs no other argument than `out`."""
        return cls(flat(args), flat(type(args)(out=args.out)), kept, bound)


def flat(args: Any) -> dict[str, Any]:
    """A dataclass of dataclasses as one table: {"train.optim.lr": 0.001}, what JSON cannot say by its name."""
    found: dict[str, Any] = {}

    def walk(values: Mapping[str, Any], prefix: str) -> None:
        for name, value in values.items():
            if name in _NOT_OF_THE_RUN:
                continue
            if isinstance(value, dict):
                walk(value, f"{prefix}{name}.")
            else:
                found[prefix + name] = value

    walk(jsonable(dataclasses.asdict(args)), "")
    return found


def changes(old: Mapping[str, Any], new: RunFlags) -> list[str]:
    """What is said of each flag that is not as it was: "--lr 0.001, before 0.0001". InputError where it cannot be."""
    said = []
    for name, value in new.values.items():
        if name not in old or (before := old[name]) == value:
            continue
        flag = f"--{name.rsplit('.', 1)[-1].replace('_', '-')}"
        if name in new.kept:
            if value != new.defaults.get(name):
                raise InputError(
                    f"{flag} {shown(value)}: this run has {shown(before)}, which cannot change on the way; leave the "
                    "flag out, or begin another run with --init"
                )
            continue
        if name in new.bound or (name.endswith("muon_lr") and bool(value) != bool(before)):
            raise InputError(
                f"{flag} {shown(value)}: this run has {shown(before)}, and its state holds nothing for another; give "
                "that one, or begin another run with --init"
            )
        said.append(f"{flag} {shown(value)}, before {shown(before)}")
    return said


def shown(value: Any) -> str:
    """As on a command line."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def jsonable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as a training record keeps them: what JSON has no word for, by its name."""
    return json.loads(json.dumps(values, default=str))
