"""The model of a new run, for its data: sizes from a configuration, a tokenizer, and weights to begin with."""

from __future__ import annotations

import dataclasses

from glide.checkpoints.first_stages import first_stage_named
from glide.checkpoints.init_from import init_from
from glide.checkpoints.init_latents import with_latents
from glide.checkpoints.text_encoders import completed, find_encoder
from glide.data.datasets import Dataset, on_device
from glide.networks.config import FirstStageConfig, ModelConfig
from glide.networks.first_stage import FirstStage
from glide.networks.frozen_text_config import FrozenTextConfig
from glide.networks.frozen_text_encoder import FrozenText, PretrainedText
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from glide.training.given_settings import Settings
from glide.training.train_base_flags import TrainBase
from glide.training.trained_parts import check_source
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from glide.utils.printable import few, say

MAPPED = 32
"""Pictures, at most, over which the maps between pixels and latents are fitted."""


def build_model(
    config: ModelConfig, data: Dataset, args: TrainBase, source: Model | None, settings: Settings
) -> Model:
    """The model for this data, which begins with the weights of `source`.

    config: as it is before the data is known. settings: those that were given. InputError for a configuration that
    does not fit the data.
    """
    _check_image_encoder(config, source)
    config, tokenizer = _for_data(config, data, args, source, settings)
    encoder = None if config.text_encoder is None else _encoder(config.text_encoder, source)
    if config.text_encoder is not None and encoder is not None:
        config = dataclasses.replace(config, text_encoder=completed(config.text_encoder, encoder))
    model = Model(checked(config, "model"), tokenizer)
    if encoder is not None:
        model.use_encoder(encoder)
    if config.first_stage is not None:
        model.first_stage = _first_stage(config.first_stage, args, source)
    if source is not None:
        if config.first_stage is not None and source.config.first_stage is None:
            some = data.batch(0, min(args.train.batch_size, MAPPED))
            source = with_latents(source, model, on_device(some, "cpu")["image"])
        fresh = init_from(model, source)
        if source.config.inpaint and not config.inpaint:
            say(
                f"--init: {args.init} also inpaints, and this run does not: --inpaint of a training keeps that"
            )
        check_source(model, args.train_part, source, fresh)
        if fresh:
            say(f"--init: {len(fresh)} tensors start from scratch: {few(fresh, 4)}")
    else:
        check_source(model, args.train_part, None, ())
    return model


def _check_image_encoder(config: ModelConfig, source: Model | None) -> None:
    """InputError where the embeddings of `source` are those of another image encoder."""
    ours = config.image_encoder
    theirs = None if source is None else source.config.image_encoder
    if ours is not None and theirs is not None and ours.fingerprint != theirs.fingerprint:
        raise InputError(
            f"got the image encoder {ours.name} ({ours.fingerprint}), expected that of --init, {theirs.name} "
            f"({theirs.fingerprint}), whose embeddings its weights read: leave --image-encoder out"
        )


def _encoder(config: FrozenTextConfig, source: Model | None) -> PretrainedText:
    """The frozen encoder of a configuration. InputError where `source` was trained with another one."""
    theirs = source.text.encoder if source is not None and isinstance(source.text, FrozenText) else None
    if theirs is not None and config.fingerprint:  # of --init, and not given again
        return theirs
    encoder = find_encoder(config)
    if theirs is not None and theirs.fingerprint != encoder.fingerprint:
        raise InputError(
            f"got the text encoder {config.source} ({encoder.fingerprint}), expected that of --init "
            f"({theirs.fingerprint}), which its weights read: leave --text-encoder out"
        )
    return encoder


def _for_data(
    config: ModelConfig, data: Dataset, args: TrainBase, source: Model | None, settings: Settings
) -> tuple[ModelConfig, Tokenizer | None]:
    """The configuration with the classes or the vocabulary of the data, and the tokenizer of a trained encoder."""
    tokenizer: Tokenizer | None = None
    uncaptioned = dataclasses.replace(config, text=None, text_encoder=None)
    if (args.unconditional or data.class_names) and "text_encoder.source" in settings:
        raise InputError(
            f"got --text-encoder for {args.data}, which is learned without captions, expected data with captions: "
            "leave it out"
        )
    if args.unconditional:
        config = dataclasses.replace(uncaptioned, num_classes=0, null_class=False, class_names=())
    elif data.class_names:
        null = args.null_captions > 0
        if source is not None and source.config.num_classes:
            null = source.config.null_class
        if "model.null_class" in settings:
            null = settings["model.null_class"].value
        names = tuple(data.class_names)
        config = dataclasses.replace(uncaptioned, num_classes=len(names), null_class=null, class_names=names)
    else:
        config = dataclasses.replace(config, num_classes=0, class_names=())
    if config.text is not None:
        if source is not None and source.config.text is not None:
            tokenizer = source.tokenizer
        if tokenizer is None:
            tokenizer = Tokenizer.train(data.captions_for_tokenizer(), args.vocab_size, config.text.context)
        text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=tokenizer.context)
        config = dataclasses.replace(config, text=text)
    return config, tokenizer


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
