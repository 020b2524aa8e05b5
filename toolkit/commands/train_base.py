"""Train a base model, with pictures drawn and measured on the way."""

from __future__ import annotations

from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from toolkit.evaluation.training_evaluation import training_evaluation
from toolkit.pipelines.training_preview import batch_grid, sample_grid


def train(args: TrainBase) -> None:
    """The training, which draws and measures pictures by the pipeline's loop. InputError as `train_base`."""
    train_base(args, sample_grid, fill=batch_grid, evaluation=training_evaluation)
