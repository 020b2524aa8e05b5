"""The declaration of a guidance: its name, default strength, options and builder.

Each method declares one in its own file, as `ENTRY`. The registry, `--help`, the flags and `Options` are made from
them. A file with an `ENTRY` imports nothing heavy at its top, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from glide.utils.numbers import Range

Interval = tuple[int, int]
"""First and last training timestep, both included."""


@dataclass(frozen=True)
class Option:
    """A setting of a guidance besides its scale and interval: a field of `Options`, and a flag."""

    name: str
    kind: Any
    """Its type: str, float, or one of them or None."""
    default: Any
    metavar: str
    help: str
    range: Range | None = None
    """Of a number; None for a text."""
    choices: tuple[str, ...] = ()
    """All texts that are allowed; none: any."""


@dataclass(frozen=True)
class GuidanceEntry:
    """A guidance that can be chosen by name."""

    name: str
    words: str
    """One line for `--help`."""
    build: Callable[[Any, float, Interval], Any]
    """(inputs: `guidance.context.GuidanceInputs`, scale, interval) -> one `Guidance` or several.

    InputError for inputs that do not fit."""
    scale: float = 1.0
    """Default strength."""
    neutral: float = 0.0
    """The strength without effect, from which a schedule grows: 1 for a contrast that is written as cfg's."""
    options: tuple[Option, ...] = ()
    captions: bool = False
    """True if it reads captions, also those that the model itself does not take."""
    labels: bool = False
    """True if it reads class labels, also those that the model itself does not take."""
    acts: tuple[float, float] | None = None
    """Default interval, as shares of the training timesteps. None: all of them."""

    @property
    def reads(self) -> frozenset[str]:
        """Names of its options."""
        return frozenset(option.name for option in self.options)
