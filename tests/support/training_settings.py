"""Shared by tests: settings."""

import dataclasses
from pathlib import Path
from typing import Any

from glide.diffusion.loss_config import LossConfig
from glide.training.config import OptimConfig, TrainConfig
from glide.training.train_base_flags import TrainBase

OPTIM = OptimConfig(lr=1e-3, muon_lr=0.02, warmup=2, cooldown=0.5)


CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    optim=OPTIM,
    ema=(0.9, 0.99),
    dtype="float32",
    log_every=2,
    save_every=2,
    sample_every=100,
)


def settings(out: Path, **changes: Any) -> TrainBase:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))
    loss = LossConfig(weighting="v", max_weight=5.0)
    return TrainBase(out=out, preset="tiny", dropout=0.1, loss=loss, train=train, **changes)
