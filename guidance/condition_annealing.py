"""Condition annealing, CADS: noise on the condition while the picture is noise, for variety (2310.17347).

Shape letters: N batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from glide.utils.errors import InputError
from glide.utils.numbers import Range
from guidance.base import Guidance
from guidance.entry import GuidanceEntry, Interval, Option

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from guidance.context import GuidanceInputs

MARK = 0x5CAD5  # sets a picture's noise here apart from the noise that it is drawn from


@dataclass(frozen=True, eq=False)
class ConditionAnnealing(Guidance):
    """The network is conditioned on sqrt(gamma) y + scale * sqrt(1 - gamma) * noise in place of the condition y.

    gamma is 1 at the interval's first training timestep and below, 0 at its last and above, linear between: tau_1 and
    tau_2 there. mix (psi): how much of it is brought back to the mean and deviation of y, 0 to 1. Planes stay.

    scale: s there, 0 is none, 0.1 is usual for captions. seeds: one for each of the N rows; what is drawn for a row
    depends on its seed alone, and begins afresh with each run.
    """

    scale: float
    seeds: Sequence[int]
    interval: tuple[int, int] = (600, 900)
    mix: float = 1.0
    _generators: list[torch.Generator] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        import torch

        self._generators.extend(torch.Generator().manual_seed(seed ^ MARK) for seed in self.seeds)

    def start(self) -> ConditionAnnealing:
        return replace(self)

    def active(self, t: int) -> bool:
        return self.scale != 0.0 and t > self.interval[0]

    def gamma(self, t: int) -> float:
        """The share of the condition that is left, from 0 to 1."""
        first, last = self.interval
        return min(1.0, max(0.0, (last - t) / max(last - first, 1)))

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        """InputError where there is nothing to anneal, or another number of rows."""
        if cond.vector is None and cond.tokens is None:
            raise InputError(
                "got condition annealing for a model without a condition, expected captions or classes: leave it out"
            )
        if cond.rows != len(self.seeds):
            raise InputError(
                f"got {len(self.seeds)} seeds for a condition of {cond.rows} rows, expected one for each"
            )
        gamma = self.gamma(t)
        vector, tokens = (
            None if part is None else self._annealed(part, gamma) for part in (cond.vector, cond.tokens)
        )
        return replace(cond, vector=vector, tokens=tokens)

    def _annealed(self, part: Tensor, gamma: float) -> Tensor:
        import torch

        rows = zip(part, self._generators, strict=True)
        return torch.stack([self._row(y, gamma, generator) for y, generator in rows])

    def _row(self, y: Tensor, gamma: float, generator: torch.Generator) -> Tensor:
        import torch

        noise = torch.randn(y.shape, generator=generator).to(y)
        noised = math.sqrt(gamma) * y + self.scale * math.sqrt(1.0 - gamma) * noise
        level = (noised - noised.mean()) / noised.std().clamp(min=1e-12) * y.std() + y.mean()
        return self.mix * level + (1.0 - self.mix) * noised


def build(inputs: GuidanceInputs, scale: float, interval: Interval) -> ConditionAnnealing:
    """Noise the condition from the interval's first timestep on; at its last one nothing but noise is left."""
    seeds = [request.seed for request in inputs.requests]
    return ConditionAnnealing(scale, seeds, interval, inputs.options.cads_mix)


ENTRY = GuidanceEntry(
    "cads",
    "noise on the caption at the noisiest timesteps, for variety",
    build,
    scale=0.1,
    options=(
        Option(
            "cads_mix",
            float,
            1.0,
            "SHARE",
            "How much the noised condition is brought back to its mean and deviation, 0 to 1.",
            Range(0.0, 1.0),
        ),
    ),
    # tau_1 and tau_2 of 2310.17347, which has 0.6 and 0.9: then too much of a picture's layout is drawn without its
    # caption, and no guidance leads back to it
    acts=(0.8, 1.0),
)
