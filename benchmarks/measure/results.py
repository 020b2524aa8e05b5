"""Results of a measurement, as data; report.py shows them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Peak:
    """Bytes of memory at most."""

    begun: int
    """Of the interpreter and its libraries, before anything was loaded; part of the others."""
    loading: int
    """Until the end, what was needed to load or build the network included."""
    drawing: int | None
    """Once all was loaded; None where the system does not tell."""


@dataclass(frozen=True)
class Measured:
    """A step of a network, repeated."""

    case: str
    by: str
    """Whose code did it: "here", "the original's way", "diffusers"."""
    dtype: str
    batch: int
    """Pictures in a step."""
    seconds: float
    """Of a step; the median."""
    work: float
    """FLOP of a step."""
    weights: int
    """Bytes."""
    memory: Peak
    steps: int = 1
    """That a picture takes."""
    rounds: tuple[float, ...] = ()
    """Seconds of a step in each round of those that took turns with it."""

    @property
    def rate(self) -> float:
        """FLOP/s."""
        return self.work / self.seconds

    @property
    def pictures(self) -> float:
        """A second."""
        return self.batch / (self.seconds * self.steps)


@dataclass(frozen=True)
class Spent:
    """Something done as a whole."""

    what: str
    seconds: float
    """The median."""
    note: str = ""


@dataclass(frozen=True)
class Note:
    """A measurement that was not possible, and why."""

    text: str


@dataclass(frozen=True)
class Table:
    """Where the time goes."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Found = Measured | Spent | Note | Table
