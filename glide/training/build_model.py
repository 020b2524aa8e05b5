"""The model of a new run, for its data: sizes from a configuration, a tokenizer, and weights to begin with."""

from __future__ import annotations

import dataclasses

from glide.checkpoints.first_stages import first_stage_named
from glide.checkpoints.init_from import init_from
from glide.data.datasets import Dataset
from glide.networks.config import FirstStageConfig, ModelConfig
from glide.networks.first_stage import FirstStage
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.training.given_settings import Settings
from glide.training.train_base_flags import TrainBase
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from glide.utils.printable import few, say


def build_model(
    config: ModelConfig, data: Dataset, args: TrainBase, source: Model | None, settings: Settings
) -> Model:
    """The model for this data, which begins with the weights of `source`.

    config: as it is before the data is known. settings: those that were given. InputError for a configuration that
    does not fit the data.
    """
    tokenizer: Tokenizer | None = None
    if args.unconditional:
        config = dataclasses.replace(config, text=None, num_classes=0, null_class=False, class_names=())
    elif data.class_names:
        null = args.null_captions > 0
        if source is not None and source.config.num_classes:
            null = source.config.null_class
        if "model.null_class" in settings:
            null = settings["model.null_class"].value
        names = tuple(data.class_names)
        config = dataclasses.replace(
            config, text=None, num_classes=len(names), null_class=null, class_names=names
        )
    elif config.text is not None:
        if source is not None:
            tokenizer = source.tokenizer
        if tokenizer is None:
            tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, config.text.context)
        text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=tokenizer.context)
        config = dataclasses.replace(config, text=text, num_classes=0, class_names=())
    else:
        config = dataclasses.replace(config, num_classes=0, class_names=())  # captions are not looked at
    model = Model(checked(config, "model"), tokenizer)
    if config.first_stage is not None:
        model.first_stage = _first_stage(config.first_stage, args, source)
    if source is not None:
        fresh = init_from(model, source)
        if fresh:
            say(f"--init: {len(fresh)} tensors start from scratch: {few(fresh, 4)}")
    return model


def _first_stage(config: FirstStageConfig, args: TrainBase, source: Model | None) -> FirstStage:
    """The first stage of a new model: that of --first-stage, else the one of --init.

    InputError where neither is the one of the configuration.
    """
    if args.first_stage is not None:
        return first_stage_named(args.first_stage)
    if source is None or source.config.first_stage != config:
        raise InputError(
            "got a configuration with a first stage and no autoencoder, expected one: give --first-stage"
        )
    return source.first_stage
