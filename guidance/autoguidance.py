"""Autoguidance: a model guided by a bad version of itself (2406.02507)."""

from __future__ import annotations

from dataclasses import dataclass

from guidance.base import EVERYWHERE, Reference
from guidance.contrast import Contrast


@dataclass(frozen=True, eq=False)
class Autoguidance(Contrast):
    """Away from a weaker model told the same: x0 = weak + scale * (main - weak).

    scale 1 is the main model. weak: another network, trained for less long or smaller, with its own encoding of the
    same condition; it knows the same noise.
    """

    scale: float
    weak: Reference
    interval: tuple[int, int] = EVERYWHERE

    @property
    def references(self) -> tuple[Reference, ...]:
        return (self.weak,)
