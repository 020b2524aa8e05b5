"""The flags of an upsampler's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from glide.training.train_base_flags import TrainBase
from upsampler.low_res_config import LowRes


@dataclass(frozen=True)
class TrainUpsampler(TrainBase):
    """Settings of an upsampler's training: those of a base model's, and how it sees what it enlarges."""

    preset: str | None = None
    """Sizes of the model by name; by default those of --init, else shapes-upsampler."""
    null_captions: float = 0.1
    """Share of examples that lose their caption or class, for classifier-free guidance."""
    crop_size: int | None = None
    """Height and width of the random crops that are learned from. By default 64 where the network does not see the
    picture as a whole (`local` in its sizes), which then samples any size, else whole pictures."""
    evaluate_pictures: int = 32
    """(evaluate-every) Pictures that are enlarged and compared with the true ones."""
    low_res: Annotated[LowRes, tyro.conf.arg(name="")] = field(default_factory=LowRes)
    watched: int = 6
    """Pictures that are enlarged to watch the training."""
