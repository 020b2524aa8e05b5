"""The flags of an upsampler's distillation. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass

from glide.training.distill_flags import StudentFlags
from upsampler.train_flags import TrainUpsampler


@dataclass(frozen=True)
class DistillUpsampler(StudentFlags, TrainUpsampler):
    """Settings of an upsampler's distillation: those of its training, without those of its network."""
