"""The configuration of a distilled model: what it learned of its teacher, and in how few steps it draws.

Imports no torch, as flags read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from glide.utils.config_check import Entries, need
from glide.utils.numbers import Range

Objective = Literal["guidance", "halving", "consistency"]


@dataclass(frozen=True)
class StudentConfig:
    """A student: a model that learned to do in one call, or in few steps, what its teacher does in more."""

    objective: Objective = "guidance"
    """Of its last training (docs/distillation.md)."""
    strengths: Annotated[tuple[float, ...], Range(0, 1000), Entries(2)] = ()
    """The smallest and the largest strength of classifier-free guidance that it was trained on, and receives as an
    input; empty: it receives none."""
    steps: Annotated[int, Range(0, 100_000)] = 0
    """Sampling steps where none are asked for; 0: as of any model."""
    sampler: str = ""
    """The sampler where none is asked for; empty: as of any model."""
    spacing: str = ""
    """The spacing of its steps where none is asked for; empty: the sampler's."""

    def check(self) -> None:
        """InputError for a range of strengths without 1, which is no guidance."""
        need(
            not self.strengths or (len(self.strengths) == 2 and self.strengths[0] <= 1.0 < self.strengths[1]),
            f"got the strengths {' '.join(f'{one:g}' for one in self.strengths)} of a student, expected two, the "
            "first at most 1 (no guidance) and the second above it",
        )
