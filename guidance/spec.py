"""A guidance as it is written on a command line: name, name:scale, name@from-to, name:scale@from-to.

Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from glide.utils.errors import InputError
from glide.utils.numbers import read_whole, shown_number
from glide.utils.ranges import SCALE

EVERYWHERE = (0, 10**9)
"""The interval of a guidance that always acts."""

FORM = re.compile(r"(?P<name>[^:@\s]+)(?::(?P<scale>[^:@]*))?(?:@(?P<first>\d{1,12})-(?P<last>\d{1,12}))?")


@dataclass(frozen=True)
class GuidanceSpec:
    """One guidance of a list."""

    name: str
    scale: float | None = None
    """None: the usual one."""
    interval: tuple[int, int] | None = None
    """First and last training timestep at which it acts; None: the usual one."""

    @classmethod
    def parse(cls, text: str) -> GuidanceSpec:
        """The inverse of `str`. InputError for what is not of that form, or a scale or an interval out of range."""
        match = FORM.fullmatch(text.strip())
        if match is None:
            raise InputError(
                f"got the guidance {text!r}, expected NAME:SCALE@FROM-TO: write for example cfg:3 or cfg:3@200-800"
            )
        scale = None if match["scale"] is None else parse_scale(match["scale"], text)
        interval = None
        if match["first"] is not None:
            first, last = (
                read_whole(match[end], f"the guidance {shown_number(text)} at the timestep", 0, EVERYWHERE[1])
                for end in ("first", "last")
            )
            interval = first, last
        if interval is not None and interval[0] > interval[1]:
            raise InputError(
                f"got the guidance {text!r}, expected the first training timestep not above the last: swap them"
            )
        return cls(match["name"], scale, interval)

    def __str__(self) -> str:
        return self.name + ("" if self.scale is None else f":{_digits(self.scale)}") + self.at

    @property
    def at(self) -> str:
        """The interval as it is written, nothing where there is none."""
        return "" if self.interval is None else f"@{self.interval[0]}-{self.interval[1]}"


def parse_scale(text: str, where: str) -> float:
    """A scale in words; InputError unless it is a finite number of at least 0."""
    return SCALE.read_real(text, f"the guidance {shown_number(where)} with the scale")


def check_scale(scale: float) -> float:
    """The scale as a float; InputError unless it is a finite number of at least 0."""
    return SCALE.real(scale, "the guidance scale")


def _digits(scale: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(scale)).removesuffix(".0")
