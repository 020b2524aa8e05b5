"""The model of a command whose pictures the oracle judges, ready to draw."""

from __future__ import annotations

from glide.checkpoints.trained_on import check_built_in_scenes
from glide.networks.fixed_batch import whole_calls
from glide.utils.errors import InputError
from toolkit.commands.judged_flags import JudgedPictures
from toolkit.pipelines.pipeline import Pipeline


def open_pipeline(args: JudgedPictures, captions: bool = True) -> Pipeline:
    """The model, ready to draw. captions: InputError for a model without captions.

    InputError, too, for a model of other pictures than the built-in scenes, the only ones that can be judged.
    """
    check_built_in_scenes(args.model)
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, args.call_size)
    if (channels := pipe.model.config.picture_channels) != 3:
        raise InputError(
            f"{args.model} draws pictures of {channels} channels, expected 3, for colours are judged: give one."
        )
    if captions and not pipe.model.config.reads_captions:
        raise InputError(f"{args.model} draws no captions; give a text model trained on the built-in scenes.")
    return pipe


def for_run(args: JudgedPictures, pipe: Pipeline, pictures: int) -> tuple[Pipeline, int]:
    """The pipeline for a run of this many pictures, and the number of them to draw at a time."""
    run = pipe.for_run(pictures)
    assert run.call_size is not None
    return run, whole_calls(args.batch_size, run.call_size)
