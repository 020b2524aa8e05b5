"""A guidance as it is written on a command line: name, name:scale, name@from-to, name:scale@from-to.

A strength that depends on the timestep has several scales (cfg:0..5) or a shape (cfg:3~cos, cfg:7~exp:2@200-999).
Imports nothing heavy, so that `--help` answers at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from glide.utils.errors import InputError
from glide.utils.numbers import read_whole, shown_number
from glide.utils.ranges import SCALE
from guidance.strength_schedule import Schedule, digits, read_shape

EVERYWHERE = (0, 10**9)
"""The interval of a guidance that always acts."""

FORM = re.compile(
    r"(?P<name>[^:@~\s]+)(?::(?P<scale>[^:@~]*))?(?:~(?P<shape>[^@~]*))?"
    r"(?:@(?P<first>\d{1,12})-(?P<last>\d{1,12}))?"
)
MOST_STRENGTHS = 1000
SAMPLES = 101
"""Equal noise shares at which the strength of a Python function is read."""


@dataclass(frozen=True)
class GuidanceSpec:
    """One guidance of a list."""

    name: str
    scale: float | None = None
    """None: the usual one."""
    interval: tuple[int, int] | None = None
    """First and last training timestep at which it acts; None: the usual one."""
    schedule: Schedule | None = None
    """The way of the strength to `scale`, which it has at the last timestep; None: the same at all of them."""

    @classmethod
    def parse(cls, text: str) -> GuidanceSpec:
        """The inverse of `str`. InputError for what is not of that form, or a scale or an interval out of range."""
        match = FORM.fullmatch(text.strip())
        if match is None:
            raise InputError(
                f"got the guidance {text!r}, expected NAME:SCALE~SHAPE@FROM-TO: write for example cfg:3, cfg:3~cos or "
                "cfg:3@200-800"
            )
        scales = [] if match["scale"] is None else _read_scales(match["scale"], text)
        shape = (None, None) if match["shape"] is None else read_shape(match["shape"], text)
        if len(scales) > 2 and shape[0] is not None:
            raise InputError(
                f"got the guidance {shown_number(text)} with a shape and {len(scales)} strengths, expected one or two: "
                "leave the shape out for a linear way through all of them"
            )
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
        return cls(match["name"], None, interval)._through(scales, *shape)

    def __str__(self) -> str:
        scales = [] if self.scale is None else [digits(scale) for scale in (*self._before, self.scale)]
        return self.name + (f":{'..'.join(scales)}" if scales else "") + self._shape + self.at

    def strength(self, share: float, neutral: float = 0.0) -> float:
        """The strength at a noise share, 1 (the noisiest timestep) to 0 (the last), of a spec with a scale.

        neutral: the strength without effect, `GuidanceEntry.neutral`.
        """
        assert self.scale is not None
        return self.scale if self.schedule is None else self.schedule.strength(share, self.scale, neutral)

    @property
    def without_scale(self) -> str:
        """As it is written but for the scale, to which --scale belongs; whole where it has several."""
        return str(self) if self._before else self.name + self._shape + self.at

    @property
    def at(self) -> str:
        """The interval as it is written, nothing where there is none."""
        return "" if self.interval is None else f"@{self.interval[0]}-{self.interval[1]}"

    @property
    def _before(self) -> tuple[float, ...]:
        return () if self.schedule is None else self.schedule.before

    @property
    def _shape(self) -> str:
        return "" if self.schedule is None else self.schedule.suffix

    def _through(self, scales: Sequence[float], shape: str | None, number: float | None) -> GuidanceSpec:
        """The same with these strengths, from the noisiest timestep to the last."""
        if not scales:
            return self if shape is None else replace(self, schedule=Schedule((), shape, number))
        *before, scale = scales
        constant = all(one == scale for one in before) if before else shape is None
        schedule = None if constant else Schedule(tuple(before), shape, number)
        return replace(self, scale=scale, schedule=schedule)


def with_strength(name: str, strength: Callable[[float], float]) -> str:
    """A guidance, as it is written, whose strength is a function of the noise share: t / (T - 1) of the training
    timestep t of T, which is 1 at the noisiest and 0 at the last.

    name: as in "pag" and "cfg@200-800". The function is read at `SAMPLES` equal shares, and to six digits unless it is
    constant; between them the strength is linear. So recipes hold all of it. InputError for a value that is not a
    finite number of at least 0.
    """
    spec = GuidanceSpec.parse(name)
    if spec.scale is not None or spec.schedule is not None:
        raise InputError(
            f"got the guidance {shown_number(name)} and a function for its strength, expected one of them: write it "
            "without a strength"
        )
    shares = [(SAMPLES - 1 - i) / (SAMPLES - 1) for i in range(SAMPLES)]
    scales = [
        SCALE.real(strength(share), f"the strength of {name} at the noise share {share:g}")
        for share in shares
    ]
    if len(set(scales)) > 1:
        scales = [float(f"{scale:.6g}") for scale in scales]
    return str(spec._through(scales, None, None))


def parse_scale(text: str, where: str) -> float:
    """A scale in words; InputError unless it is a finite number of at least 0."""
    return SCALE.read_real(text, f"the guidance {shown_number(where)} with the scale")


def check_scale(scale: float) -> float:
    """The scale as a float; InputError unless it is a finite number of at least 0."""
    return SCALE.real(scale, "the guidance scale")


def _read_scales(text: str, where: str) -> list[float]:
    """One strength, or several with .. between. InputError for one that is missing or out of range."""
    parts = text.split("..")
    if len(parts) > 1 and not all(parts):
        raise InputError(
            f"got the guidance {shown_number(where)}, in which a strength beside .. is missing, expected one on each "
            "side: write for example cfg:0..5"
        )
    if len(parts) > MOST_STRENGTHS:
        raise InputError(
            f"got the guidance {shown_number(where)} with {len(parts)} strengths, expected at most {MOST_STRENGTHS}: "
            "give fewer, it is linear between them"
        )
    return [parse_scale(part, where) for part in parts]
