"""OUT/auto.json: the plan of an automatic training and how far it is, so that the same command goes on.

Written whole or not at all, after each thing that is done.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError
from glide.utils.json_files import read_table
from toolkit.commands.train_auto_plan import DataFacts, Plan, Stage

NAME = "auto.json"
VERSION = 1


@dataclass
class Round:
    """A part of a stage, after which its steps are counted again."""

    steps: int
    """Of the stage, at the end of the round."""
    cooldown: float = 0.0
    every: int = 0
    """Steps between two points of the curve."""
    save_every: int = 1
    seconds_per_step: float | None = None
    """Measured; None: it is not finished."""


@dataclass
class AutoState:
    """The contents of the file."""

    asked: dict[str, Any]
    """The flags that the plan follows from."""
    facts: DataFacts
    plan: Plan
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    """By stage."""
    done: bool = False

    def write(self, out: Path) -> None:
        values = {"version": VERSION, **dataclasses.asdict(self)}
        write_text(out / NAME, json.dumps(values, indent=1, default=str) + "\n")


def read_state(out: Path) -> AutoState | None:
    """The state of an earlier run; None where there is none. InputError for a file that cannot be read."""
    path = out / NAME
    if not path.exists():
        return None
    values = read_table(path)
    try:
        if values["version"] != VERSION:
            raise ValueError(f"version {values['version']!r}")
        plan: Mapping[str, Any] = values["plan"]
        stages = tuple(Stage(**stage) for stage in plan["stages"])
        return AutoState(
            dict(values["asked"]),
            DataFacts(**values["facts"]),
            Plan(**{**plan, "stages": stages, "reasons": tuple(plan["reasons"])}),
            {name: [Round(**one) for one in rounds] for name, rounds in values["rounds"].items()},
            bool(values["done"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"got {path}, which is no plan of this version ({error}), expected the one that `train auto` wrote: give "
            "another --out"
        ) from error


def check_same(state: AutoState, asked: Mapping[str, Any], facts: DataFacts, out: Path) -> None:
    """InputError where a command that goes on asks for something else than the one that planned."""
    for name, value in asked.items():
        before = state.asked.get(name)
        if before != value:
            flag = name if name == "data" else f"--{name.replace('_', '-')}"
            raise InputError(
                f"got {flag} {value} for {out}, which was planned with {before}, expected the same: give that to go "
                "on, or another --out for a new training"
            )
    if facts.fingerprint != state.facts.fingerprint:
        raise InputError(
            f"got other pictures or captions in {asked['data']} than {out} was planned with ({facts.pictures}, before "
            f"{state.facts.pictures}), expected the same: give another --out for a new training"
        )
