"""Distil a model, with pictures drawn and measured on the way."""

from __future__ import annotations

from glide.training.distill import distillation
from glide.training.distill_flags import Distill
from glide.training.model_config import BASE
from glide.training.train_base import train_base
from toolkit.evaluation.training_evaluation import training_evaluation
from toolkit.evaluation.upsampling import upsampling_evaluation
from toolkit.pipelines.training_preview import batch_grid, sample_grid
from toolkit.pipelines.upscale import enlarger
from upsampler.distill_flags import DistillUpsampler
from upsampler.train import train_upsampler


def distill(args: Distill | DistillUpsampler) -> None:
    """The distillation, which draws and measures pictures by the pipeline's loop. InputError as `distillation`."""
    if isinstance(args, DistillUpsampler):
        train_upsampler(args, enlarger, upsampling_evaluation, args.student)
        return
    asked, kind, make_task = distillation(args, args.student, BASE)
    train_base(asked, sample_grid, kind, batch_grid, training_evaluation, make_task)
