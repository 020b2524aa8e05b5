"""The flags of a prior's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import tyro

from glide.data.skipped_files import MAX_BROKEN
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.prior_config import PriorConfig
from glide.training.config import OptimConfig, TrainConfig
from glide.utils.config_flags import ConfigFlags

PRIOR_FLAGS = ConfigFlags(
    PriorConfig,
    "prior",
    decided={
        "prior.mean": "the data",
        "prior.std": "the data",
        "prior.unit": "--image-encoder",
        "text.vocab": "--vocab-size and the captions",
        **dict.fromkeys(
            (f"image_encoder.{name}" for name in ImageEncoderConfig.__dataclass_fields__), "--image-encoder"
        ),
    },
)
"""Every setting of a prior."""


@dataclass(frozen=True)
class TrainPrior:
    """Settings of a prior's training."""

    config_flags: ClassVar[ConfigFlags[Any]] = PRIOR_FLAGS

    out: Path
    """Folder of the run: log.jsonl, validation.jsonl, checkpoints/, and the prior itself, a --prior of sample.py."""
    data: str = "shapes"
    """As of train_base.py: captioned pictures."""
    image_encoder: str | None = None
    """Image encoder whose embeddings it learns to draw, frozen: noisy-clip:NAME, clip:ORG/NAME, dinov2:ORG/NAME, or a
    folder; by default that of --init or of the run that is resumed."""
    preset: str | None = None
    """Sizes of the prior by name: tiny, shapes, dalle-2; by default shapes, or those of --init."""
    config: Path | None = None
    """TOML file with settings of the prior, on top of the preset; the flags of the prior come before it."""
    show_config: bool = False
    """Print the prior's whole configuration as such a file, with the source of each value, and exit."""
    model: Annotated[Mapping[str, Any], tyro.conf.Suppress] = field(default_factory=dict)
    """Settings of the prior by key, such as "prior.layers", from the flags of `PRIOR_FLAGS`."""
    init: str | None = None
    """Prior whose weights to begin with."""
    init_text: str | None = None
    """Diffusion model with whose tokenizer and trained text encoder to begin: it knows already what words look like."""
    resume: bool = False
    """Go on exactly where the last checkpoint in --out was."""
    overwrite: bool = False
    """A new run takes the place of a model that is in --out."""
    null_captions: float = 0.1
    """Share of examples that lose their caption, for classifier-free guidance."""
    vocab_size: int = 512
    """Of the tokenizer that is trained on the captions."""
    held_out: float = 0.0
    """Share of the pictures of a folder or of shards that are left out of training, and on which it is measured. (The
    built-in scenes have held-out ones of their own.)"""
    validation_batches: int = 4
    """Batches of held-out pictures whose loss and drawn embeddings are measured every --sample-every steps
    (validation.jsonl); 0: none."""
    evaluate_pictures: int = 256
    """(evaluate-every) Embeddings that are drawn of held-out captions, or, without held-out pictures, of those of the
    data, and compared with the true ones."""
    crop: Literal["center", "random"] = "center"
    flip: bool = False
    """Mirror pictures at random; captions that say "left" are then wrong."""
    max_broken: float = MAX_BROKEN
    """Share of damaged pictures, and of those without a caption, that are skipped and counted."""
    workers: int | None = None
    """Threads that read and decode pictures; by default 1 beside a network on the CPU, else up to 8."""
    practice: Annotated[TimestepConfig, tyro.conf.arg(name="")] = field(default_factory=TimestepConfig)
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the model folder; checkpoints are float32 always."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
    loss: Annotated[LossConfig, tyro.conf.arg(name="")] = field(default_factory=LossConfig)
    """Its `prediction` is the prior's."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=20_000, batch_size=128, optim=OptimConfig(lr=1e-3, cooldown=1.0)
        )
    )


FROZEN_FLAGS = ("preset", "init", "init_text", "image_encoder", "vocab_size")
"""Settings of a run that are in its folder by now."""

STATE_FLAGS = ("practice.timesteps", "train.ema", "train.ema_snapshots")
"""Settings that its checkpoints hold the state of."""
