"""Train an upsampler, with pictures enlarged on the way."""

from __future__ import annotations

from toolkit.evaluation.upsampling import upsampling_evaluation
from toolkit.pipelines.upscale import enlarger
from upsampler.train import train_upsampler
from upsampler.train_flags import TrainUpsampler


def train(args: TrainUpsampler) -> None:
    """The training, which enlarges its preview pictures by the pipeline's upscaler. InputError as `train_upsampler`."""
    train_upsampler(args, enlarger, upsampling_evaluation)
