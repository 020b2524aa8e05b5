"""The configuration of the timesteps of a training. Imports no torch, so that `--help` reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from glide.diffusion.timestep_sampling import TimestepSampler


@dataclass(frozen=True)
class TimestepConfig:
    """Which noise levels a training practises."""

    timesteps: Literal["uniform", "logit_normal", "loss_second_moment"] = "uniform"
    """Which noise levels are practised: all alike, those in the middle (2403.03206), or those of large loss
    (2102.09672)."""
    timestep_power: float = 0.0
    """Over 0: uniform timesteps become noisier ones, with a density in proportion to t to this power."""
    timestep_mean: float = 0.0
    """Of logit-normal ones: above 0 prefers noise."""
    timestep_deviation: float = 1.0
    """Of logit-normal ones, above 0: how far they spread from the middle."""

    def sampler(self, steps: int) -> TimestepSampler:
        """Of timesteps 0 to `steps` - 1. InputError for numbers that cannot be."""
        from glide.diffusion.timestep_sampling import (  # with torch
            LogitNormalTimesteps,
            LossSecondMoment,
            UniformTimesteps,
        )

        if self.timesteps == "logit_normal":
            return LogitNormalTimesteps(steps, self.timestep_mean, self.timestep_deviation)
        if self.timesteps == "loss_second_moment":
            return LossSecondMoment(steps)
        return UniformTimesteps(steps, self.timestep_power)
