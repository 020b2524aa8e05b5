"""Train a base model, with pictures drawn and measured on the way."""

from __future__ import annotations

from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.device import find_device
from glide.utils.errors import InputError
from glide.utils.ranges import check_numbers
from toolkit.evaluation.features import features_named
from toolkit.evaluation.training_curve import TrainingCurve, watched
from toolkit.pipelines.training_preview import batch_grid, sample_grid


def train(args: TrainBase) -> None:
    """The training, which draws its preview grids by the pipeline's loop. InputError as `train_base`."""
    curve = _curve(args)
    train_base(args, watched(sample_grid, curve), fill=watched(batch_grid, curve))


def _curve(args: TrainBase) -> TrainingCurve | None:
    """The curve of --evaluate-every, if any. InputError for settings that do not fit."""
    if not args.evaluate_every:
        return None
    check_numbers(args)
    if args.evaluate_every % args.train.sample_every:
        raise InputError(
            f"got --evaluate-every {args.evaluate_every} with --sample-every {args.train.sample_every}, expected a "
            "multiple of it: change one of them"
        )
    if args.condition or args.image_encoder:
        raise InputError(
            "got --evaluate-every for a model that is conditioned on pictures, expected one that draws from captions "
            "or classes: leave it out, and measure by evaluate_images.py"
        )
    features = features_named(args.evaluate_features, find_device(args.device))
    last, count = args.train.steps, args.evaluate_pictures
    return TrainingCurve(args.data, args.held_out, features, args.out, args.evaluate_every, last, count)
