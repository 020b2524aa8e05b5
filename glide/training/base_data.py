"""The data of a base model's training: at which sizes, whole or a part, and how many pictures a batch can have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from glide.data.aspect_buckets import bucket_sizes
from glide.data.datasets import Dataset, open_data
from glide.data.stored_dataset import StoredData
from glide.networks.config import ModelConfig
from glide.networks.picture_sizes import default_size, multiple_of, trained_sizes
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from glide.utils.picture_size import Size, check_multiple, parse_size, size_text
from glide.utils.printable import say


def check_shapes(args: TrainBase, draws: bool) -> None:
    """InputError for --size and --buckets at once, for a size that is none, and for either of an upsampler.

    draws: False for an upsampler.
    """
    if not draws and (args.size is not None or args.buckets):
        raise InputError(
            "got --size or --buckets for an upsampler, which learns from square crops and enlarges any shape, expected "
            "none: leave it out"
        )
    if args.size is not None:
        parse_size(args.size)
        if args.buckets:
            raise InputError(
                "got --size and --buckets, expected one of them, as buckets lie around the square of the preset: leave "
                "one out"
            )


def sized(config: ModelConfig, args: TrainBase) -> ModelConfig:
    """The configuration of a new model with the size of --size. InputError for one that it cannot take.

    A square becomes its `image_size`; buckets are known with the data (`open_for_training`).
    """
    config = dataclasses.replace(config, sizes=())
    if args.size is None:
        return config
    size = check_multiple(parse_size(args.size), multiple_of(config))
    if size[0] != size[1]:
        return dataclasses.replace(config, sizes=(size_text(size),))
    side = size[0] * config.unet.image_size // config.picture_size
    return dataclasses.replace(config, unet=dataclasses.replace(config.unet, image_size=side))


def open_for_training(
    args: TrainBase, config: ModelConfig, unconditional: bool, main: bool
) -> tuple[Dataset, ModelConfig]:
    """The training data, and the configuration with the sizes of their buckets, where they have some.

    main: say what the buckets are. InputError for too few pictures.
    """
    sizes, least = trained_sizes(config), 1
    if args.buckets and not config.sizes:
        sizes, least = bucket_sizes(config.picture_size, multiple_of(config)), args.train.batch_size
    data = open_part(args, config, unconditional, sizes, least, crop=args.crop, flip=args.flip)
    data.check_batch(args.train.batch_size)
    if not args.buckets or not isinstance(data, StoredData):
        return data, config
    if main:
        one = f"one aspect bucket: all pictures are learned at {size_text(data.sizes[0])}"
        say(one if data.buckets is None else data.buckets.report())
    return data, dataclasses.replace(config, sizes=tuple(map(size_text, data.sizes)))


def open_part(
    args: TrainBase,
    config: ModelConfig,
    unconditional: bool,
    sizes: Sequence[Size] = (),
    least: int = 1,
    **options: Any,
) -> Dataset:
    """The data set, or a part of it, at sizes, by default the model's first."""
    if config.conditions and not args.condition:
        raise InputError(
            f"got no --condition for a model that is conditioned on {', '.join(config.conditions)}, expected the "
            "pictures of each: give them"
        )
    return open_data(
        args.data,
        config.picture_size,
        seed=args.train.seed,
        max_broken=args.max_broken,
        held_out=args.held_out,
        channels=config.picture_channels,
        unconditional=unconditional,
        conditions=args.condition,
        sizes=tuple(sizes) or (default_size(config),),
        least=least,
        **options,
    )


def batch_of(data: Dataset, size: int) -> int:
    """`size`, halved until a data set has pictures for it."""
    try:
        data.check_batch(size)
    except InputError:
        return batch_of(data, size // 2) if size > 1 else 1
    return size
