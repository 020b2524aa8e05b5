"""The configuration of the training timesteps. Imports no torch, so that `--help` reads it quickly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from glide.diffusion.timestep_sampling import TimestepSampler


@dataclass(frozen=True)
class TimestepConfig:
    """The distribution of the timesteps, and so of the noise levels, that training samples."""

    timesteps: Literal["uniform", "logit_normal", "loss_second_moment"] = "uniform"
    """Distribution of the training timesteps: uniform, around the middle (2403.03206), or in proportion to the loss
    (2102.09672)."""
    timestep_power: float = 0.0
    """(uniform) Above 0: prefer noisier timesteps, with a density in proportion to t to this power."""
    timestep_mean: float = 0.0
    """(logit_normal) Above 0: prefer noisier timesteps."""
    timestep_deviation: float = 1.0
    """(logit_normal) Spread around the middle, above 0."""

    def sampler(self, steps: int) -> TimestepSampler:
        """The distribution over timesteps 0 to `steps` - 1. InputError for numbers out of range."""
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
