"""The flags of a noisy classifier's training. Imports no torch, so that `--help` reads them quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import tyro

from glide.data.targets import Target
from glide.training.config import OptimConfig, TrainConfig
from glide.training.given_settings import decided_by_first_stage
from glide.utils.config_flags import ConfigFlags
from guidance.classifier.config import ClassifierConfig
from guidance.train_common_flags import TrainGuide

CLASSIFIER_FLAGS = ConfigFlags(
    ClassifierConfig,
    "classifier",
    decided={
        "classifier.num_classes": "the data",
        "classifier.class_names": "the data",
        **decided_by_first_stage("classifier"),
    },
)
"""Every setting of a noisy classifier."""


@dataclass(frozen=True)
class TrainClassifier(TrainGuide):
    """Settings of a classifier's training."""

    config_flags: ClassVar[ConfigFlags[Any]] = CLASSIFIER_FLAGS

    data: str = "shapes:one"
    """shapes:one (or shapes:one=3,count=1), a folder that holds a folder of pictures for each class, idx:FOLDER or
    hf:NAME."""
    target: Target = "shape"
    """The class of a built-in scene: its things' shape or colour; where they differ, one of them at random."""
    init: str | None = None
    """Begin with the down path of this diffusion model, named as --like; it must be of the preset's sizes."""
    preset: str = "shapes-64"
    """Sizes of the classifier, by the name of the base models it is for."""
    noised: bool = True
    """Train on pictures at all noise levels; without, on clean ones (such a classifier cannot guide)."""
    held_out_images: int = 512
    """Pictures that are measured, at most, every --sample-every steps."""
    dropout: float = 0.0
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(
        default_factory=lambda: TrainConfig(
            steps=10_000, optim=OptimConfig(lr=3e-4, weight_decay=0.05, cooldown=1.0)
        )
    )
    """As ADM: the learning rate falls linearly to zero from the start (--cooldown 1)."""


FROZEN_FLAGS = ("preset", "recipe", "init", "noised", "dropout", "like", "first_stage")
"""Settings of a run that are in its folder by now."""
