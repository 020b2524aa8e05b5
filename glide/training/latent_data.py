"""Latents of a training's data that are encoded ahead, by the training itself or in parts by other machines."""

from __future__ import annotations

from pathlib import Path

import torch

from glide.checkpoints.first_stages import first_stage_named
from glide.data.datasets import Dataset
from glide.data.latents import Encode, EncodedAhead, check_stored, encode_ahead, shards_of
from glide.networks.config import ModelConfig
from glide.networks.first_stage import FirstStage
from glide.networks.model import Model
from glide.training.base_data import open_for_training
from glide.training.distributed import Processes
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from glide.utils.parts import Part
from glide.utils.printable import say


def encoded_ahead(folder: Path, data: Dataset, model: Model, processes: Processes) -> Dataset:
    """The data with latents that are encoded ahead, by all processes. InputError for another folder."""
    assert model.config.first_stage is not None
    fingerprint = model.config.first_stage.fingerprint
    stored = check_stored(data)
    mine = range(processes.rank, shards_of(stored), processes.world)
    encode_ahead(stored, folder, fingerprint, encoder_on(processes.device, model.first_stage), mine)
    processes.barrier()
    return EncodedAhead(stored, folder, fingerprint)


def encode_part(args: TrainBase, config: ModelConfig, unconditional: bool, processes: Processes) -> None:
    """Encode the part of --encode-part of the data that a training with these flags would see.

    InputError for a model without latents, and for flags that do not fit.
    """
    if args.encode_ahead is None or args.first_stage is None or processes.world > 1:
        raise InputError(
            "got --encode-part without --encode-ahead and --first-stage, or in several processes, expected both, and "
            "one process for each part: give them"
        )
    check_ahead(config)
    part = Part.parse(args.encode_part or "")
    stage = first_stage_named(args.first_stage)
    stored = check_stored(open_for_training(args, config, unconditional, processes.main)[0])
    mine = part.of_rows(shards_of(stored))
    encode = encoder_on(processes.device, stage)
    encode_ahead(stored, args.encode_ahead, stage.config.fingerprint, encode, mine)
    say(
        f"part {part}: {len(mine)} of {shards_of(stored)} shards of latents are in {args.encode_ahead.resolve()}",
        result=True,
    )


def encoder_on(device: torch.device, stage: FirstStage) -> Encode:
    """The encoder of a first stage for pictures that were read into the machine's memory, computing on a device."""
    return lambda pictures: stage.encode(pictures.to(device))


def check_ahead(config: ModelConfig) -> None:
    """InputError for a model whose latents cannot be encoded ahead."""
    if config.first_stage is None or config.inpaint or config.conditioned_on_pictures:
        raise InputError(
            "got --encode-ahead for a model of pixels, or with --inpaint, --condition or --image-encoder, which read "
            "the pictures themselves, expected a model of latents without masks and conditions: leave it out"
        )
