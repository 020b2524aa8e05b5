"""The flags of a noisy CLIP's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tyro

from glide.training.config import OptimConfig, TrainConfig
from glide.training.given_settings import decided_by_first_stage
from glide.utils.config_flags import ConfigFlags
from guidance.clip.config import ClipConfig
from guidance.train_common_flags import TrainGuide

_DECIDED = {"text.vocab": "--vocab-size and the captions", **decided_by_first_stage("clip")}
CLIP_FLAGS = ConfigFlags(ClipConfig, "clip", decided=_DECIDED)
"""Every setting of a noisy CLIP."""


@dataclass(frozen=True)
class TrainClip(TrainGuide):
    """Settings of a CLIP's training."""

    config_flags: ClassVar[ConfigFlags[Any]] = CLIP_FLAGS

    data: str = "shapes"
    """shapes (shapes:one, shapes:one=1,count=2,pair=3), WebDataset shards, or a folder of captioned pictures."""
    preset: str = "shapes-64"
    """Sizes of the CLIP by name; glide is the published one."""
    init: str | None = None
    """Begin with the down path and the text transformer of this diffusion model, named as --like, in place of the
    preset's vision transformer and its text transformer. Both have learned what captions say of noised pictures. Or
    with the CLIP of that name, to train it further."""
    deepen: int = 0
    """With --init: so many residual blocks more at each level of the tower for pictures, which begin as the identity
    (1511.05641)."""
    vocab: str | None = None
    """Folder or hub id of CLIP's vocabulary; without it a tokenizer is trained on the captions."""
    vocab_size: int = 512
    """Of the tokenizer that is trained."""
    context: int | None = None
    """Tokens of a caption, the rest is cut; by default the preset's."""
    wrong_captions: int = 0
    """Of the built-in scenes: so many further captions for each picture, each wrong in one fact, to tell it from."""
    gradient_weight: float = 0.0
    """Also learn the gradient, from the difference that a caption makes to the model of --like (2203.14206): weight of
    its error beside the contrastive loss. 100 suits pictures of 64x64; a step takes about three times as long."""
    held_out_pairs: int = 256
    """Pairs that are measured, at most, every --sample-every steps."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=10_000, batch_size=128, optim=OptimConfig(lr=1e-3, weight_decay=0.05, cooldown=0.5)
        )
    )
    """All of a batch are compared with each other: larger ones are harder, and teach more."""


FROZEN_FLAGS = ("preset", "recipe", "init", "deepen", "like", "first_stage", "vocab", "vocab_size", "context")
"""Settings of a run that are in its folder by now."""
