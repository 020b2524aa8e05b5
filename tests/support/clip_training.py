"""Shared by tests: photos, settings."""

import dataclasses
from pathlib import Path
from typing import Any

from PIL import Image

from glide.training.config import OptimConfig, TrainConfig
from guidance.clip.train_flags import TrainClip

OPTIM = OptimConfig(lr=1e-3, muon_lr=0.02, warmup=2, cooldown=0.5)


CONFIG = TrainConfig(
    steps=6, batch_size=4, optim=OPTIM, ema=(0.9,), dtype="float32", log_every=2, save_every=2, sample_every=4
)


def settings(out: Path, **changes: Any) -> TrainClip:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))
    return TrainClip(
        out, data="shapes:one", preset="tiny", held_out_pairs=8, levels=2, train=train, **changes
    )


def photos(folder: Path, count: int, captions: bool = True) -> Path:
    for i in range(count):
        path = folder / f"{i}.png" if captions else folder / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 24), (90 * i % 256, 40 * i % 256, 10)).save(path)
        if captions:
            path.with_suffix(".txt").write_text(f"colour number {i}")
    return folder
