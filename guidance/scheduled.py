"""A guidance whose strength depends on the timestep (2404.13040, 2603.08155). An interval is the special case."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from glide.utils.ranges import SCALE
from guidance.base import Guidance, GuidanceWrapper
from guidance.strength_schedule import noise_share

if TYPE_CHECKING:
    from torch import Tensor

    from glide.diffusion.conditioning import Conditioning
    from glide.diffusion.denoiser import Prediction


@dataclass(frozen=True, eq=False)
class Scheduled(GuidanceWrapper):
    """Another guidance, at each timestep with the scale that a function gives; within its interval, as without it.

    Where that scale has no effect, the step costs what it costs without the guidance.
    """

    inner: Guidance
    strength: Callable[[float], float]
    """Of the noise share t / (steps - 1): 1 at the noisiest training timestep, 0 at the last. At least 0."""
    steps: int = 1000
    """Timesteps of the training: `len(model.process)`."""

    def start(self) -> Scheduled:
        return replace(self, inner=self.inner.start())

    def at(self, t: int) -> Guidance:
        """InputError for a strength that is not a finite number of at least 0."""
        share = noise_share(t, self.steps)
        scale = SCALE.real(self.strength(share), f"the strength of {self.name} at the noise share {share:g}")
        return self.inner.with_scale(scale)

    def active(self, t: int) -> bool:
        return self.at(t).active(t)

    def condition(self, cond: Conditioning, t: int) -> Conditioning:
        return self.at(t).condition(cond, t)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor | float:
        raise TypeError("a scheduled guidance has a shift at a timestep alone: ask guidance.at(t) for it")

    def gradient(self, x: Tensor, t: int) -> Tensor | float:
        return self.at(t).gradient(x, t)
