"""The flags of an autoencoder's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from glide.data.skipped_files import MAX_BROKEN
from glide.networks.autoencoder_config import AutoencoderConfig
from glide.training.config import OptimConfig, TrainConfig
from glide.training.reconstruction_config import ReconstructionConfig
from glide.utils.config_flags import ConfigFlags

AUTOENCODER_FLAGS = ConfigFlags(
    AutoencoderConfig,
    "autoencoder",
    decided={"autoencoder.mean": "the data", "autoencoder.std": "the data"},
)
"""Every setting of an autoencoder."""


@dataclass(frozen=True)
class TrainAutoencoder:
    """Settings of an autoencoder's training."""

    config_flags: ClassVar[ConfigFlags[Any]] = AUTOENCODER_FLAGS

    out: Path
    """Folder of the run: log.jsonl, checkpoints/, samples/ (pictures above their reconstructions), and the
    autoencoder itself, a --first-stage of train_base.py."""
    data: str = "shapes"
    """As of train_base.py; captions and classes are not looked at."""
    image_size: int = 128
    """Pixels of a training picture, wide and high. An autoencoder takes pictures of any size afterwards."""
    preset: str | None = None
    """Sizes of the autoencoder by name: f4, f4-wide, f8; by default f4, or those of --init."""
    config: Path | None = None
    """TOML file with settings of the autoencoder, on top of the preset; the flags of the autoencoder come before it."""
    show_config: bool = False
    """Print the autoencoder's whole configuration as such a file, with the source of each value, and exit."""
    model: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the autoencoder by key, such as "autoencoder.channels", from the flags of `AUTOENCODER_FLAGS`."""
    init: str | None = None
    """Autoencoder whose weights to begin with."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    perceptual: str | None = None
    """Image encoder whose feature maps a perceptual loss compares (1801.03924), frozen: clip:ORG/NAME, dinov2:ORG/NAME,
    noisy-clip:NAME, or a folder."""
    held_out: float = 0.0
    """Share of the pictures of a folder or of shards that are left out of training, and whose PSNR is measured. (The
    built-in scenes have held-out ones of their own.)"""
    held_out_images: int = 32
    """Pictures that are measured, at most, every --sample-every steps (validation.jsonl)."""
    crop: Literal["center", "random"] = "random"
    flip: bool = False
    """Mirror pictures at random."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    loss: Annotated[ReconstructionConfig, tyro.conf.arg(name="")] = field(
        default_factory=ReconstructionConfig
    )
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=20_000, batch_size=16, optim=OptimConfig(lr=1e-3, cooldown=1.0)
        )
    )


FROZEN_FLAGS = ("preset", "init")
"""Settings of a run that are in its folder by now."""

STATE_FLAGS = ("train.ema", "train.ema_snapshots")
"""Settings that its checkpoints hold the state of."""
