"""Strengths that depend on the noise: ramps through given strengths, the cosine and the exponential shape.

The noise share of a training timestep t of T is t / (T - 1): 1 at the noisiest, 0 at the last. It does not depend on
the number of sampling steps. Imports nothing heavy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from glide.utils.errors import InputError
from glide.utils.numbers import Range, shown_number


@dataclass(frozen=True)
class Shape:
    """A weight that grows from the noisiest timestep to the last, where it is 1."""

    weight: Callable[[float, float], float]
    """(noise share, the shape's number) -> 0 to 1."""
    what: str
    """The name of its number, for messages."""
    usual: float


def _cosine(share: float, power: float) -> float:
    """(1 - cos(pi (1 - share)^power)) / 2: 0 at the noisiest timestep (2404.13040; MDT, 2303.14389)."""
    return (1.0 - math.cos(math.pi * (1.0 - share) ** power)) / 2.0


def _exponential(share: float, rate: float) -> float:
    """exp(-rate share): a strength that decays with the noise (2603.08155)."""
    return math.exp(-rate * share)


SHAPES = {"cos": Shape(_cosine, "power", 1.0), "exp": Shape(_exponential, "rate", 2.0)}
NUMBER = Range(0.0, 100.0, above=True, do="1 to 4 is usual")


@dataclass(frozen=True)
class Schedule:
    """The way of a strength to the scale of its guidance, which it has at the last timestep."""

    before: tuple[float, ...] = ()
    """Strengths at equal distances of the noise share, from the noisiest timestep on. None: begins without effect."""
    shape: str | None = None
    """A name of `SHAPES`, between one strength and the scale. None: linear from each strength to the next."""
    number: float | None = None
    """The power or rate of the shape. None: its usual one."""

    def strength(self, share: float, scale: float, neutral: float) -> float:
        """The strength at a noise share from 0 to 1. neutral: the strength without effect, 1 or 0."""
        values = (*(self.before or (neutral,)), scale)
        if self.shape is not None:
            shape = SHAPES[self.shape]
            weight = shape.weight(share, shape.usual if self.number is None else self.number)
            return _between(values[0], scale, weight)
        place = (1.0 - share) * (len(values) - 1)
        first = min(int(place), len(values) - 2)
        return _between(values[first], values[first + 1], place - first)

    @property
    def suffix(self) -> str:
        """The shape as it is written after the scale."""
        if self.shape is None:
            return ""
        return f"~{self.shape}" + ("" if self.number is None else f":{digits(self.number)}")


def read_shape(text: str, where: str) -> tuple[str, float | None]:
    """A shape and its number, as in "cos" and "exp:2". InputError for another one; where: the whole guidance."""
    name, colon, number = text.partition(":")
    if name not in SHAPES:
        raise InputError(
            f"got the guidance {shown_number(where)} with the shape {shown_number(name)}, expected "
            f"{' or '.join(SHAPES)}: write for example cfg:3~cos, or cfg:0..5 for a linear one"
        )
    if not colon:
        return name, None
    return name, NUMBER.read_real(number, f"the guidance {shown_number(where)} with the {SHAPES[name].what}")


def noise_share(t: int, steps: int) -> float:
    """The noise share of a training timestep: 1 at the noisiest of so many, 0 at the last."""
    return t / max(steps - 1, 1)


def digits(number: float) -> str:
    """The shortest text that reads back as the same number."""
    return repr(float(number)).removesuffix(".0")


def _between(first: float, last: float, weight: float) -> float:
    """Exact at both ends, and everywhere between equal strengths."""
    return first if first == last else (1.0 - weight) * first + weight * last
