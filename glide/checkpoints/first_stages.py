"""First stages of latent diffusion models: by name for a new model, and from a model's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import nn

from glide.checkpoints.autoencoders import save_autoencoder
from glide.checkpoints.diffusers_autoencoders import (
    DiffusersAutoencoder,
    load_any_autoencoder,
    save_diffusers_autoencoder,
)
from glide.checkpoints.model_folder import CONFIG
from glide.checkpoints.names import embedded_models
from glide.checkpoints.provenance import fingerprint
from glide.networks.autoencoder import Autoencoder
from glide.networks.config import FirstStageConfig
from glide.networks.first_stage import AutoencoderLike, FirstStage, LatentStage
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID

HELD = "first_stage"
"""Folder within a model's folder."""


def first_stage_named(name: str) -> LatentStage:
    """The first stage of that name, for a new model: a folder, an embedded autoencoder, or a hub id; diffusers' too.

    A folder's is copied into the model's folder; others are named there. InputError as `load_any_autoencoder`.
    """
    autoencoder = load_any_autoencoder(name)
    local = Path(name).is_dir() and name not in embedded_models()
    source = "" if local or not (name in embedded_models() or HUB_ID.fullmatch(name)) else name
    config = FirstStageConfig(
        source=source,
        fingerprint=_fingerprint(autoencoder),
        factor=autoencoder.factor,
        channels=autoencoder.picture_channels,
    )
    return LatentStage(autoencoder, config)


def first_stage_of(config: FirstStageConfig, folder: Path) -> LatentStage:
    """The first stage of the model in `folder`, or in a checkpoint of its run.

    InputError where it is missing, or is not the one that the model was trained with.
    """
    if config.source:
        autoencoder = load_any_autoencoder(config.source)
        where = config.source
    else:
        run = folder.parents[1] if folder.parent.name == "checkpoints" else folder
        places = [place / HELD for place in (folder, run)]
        found = next((place for place in places if (place / CONFIG).is_file()), None)
        if found is None:
            raise InputError(
                f"{folder} holds a model that draws latents, and no autoencoder, expected one in {HELD}/: copy the "
                "whole folder"
            )
        autoencoder, where = load_any_autoencoder(found), str(found)
    check_first_stage(config, autoencoder, where)
    return LatentStage(autoencoder, config)


def check_first_stage(config: FirstStageConfig, autoencoder: AutoencoderLike, name: str) -> None:
    """InputError unless the autoencoder of that name is the one that `config` speaks of."""
    if (autoencoder.factor, autoencoder.picture_channels) != (config.factor, config.channels):
        raise InputError(
            f"got the autoencoder {name} of factor {autoencoder.factor} for {autoencoder.picture_channels} channels, "
            f"expected factor {config.factor} and {config.channels} channels: give the one that the model was trained "
            "with"
        )
    if _fingerprint(autoencoder) != config.fingerprint:
        raise InputError(
            f"got the autoencoder {name} with other weights ({_fingerprint(autoencoder)}) than the model was trained "
            f"with ({config.fingerprint}), expected the same: put that one back"
        )


def held_in_folder(config: FirstStageConfig | None, stage: FirstStage) -> Callable[[Path], None] | None:
    """The function that writes a first stage into a model's folder, for `write_folder`; None where none is held.

    One of diffusers is written in diffusers' own format.
    """
    if config is None or config.source:
        return None

    def write(target: Path) -> None:
        assert isinstance(stage, LatentStage)
        if isinstance(stage.autoencoder, DiffusersAutoencoder):
            save_diffusers_autoencoder(target / HELD, stage.autoencoder)
            return
        assert isinstance(stage.autoencoder, Autoencoder)
        # whatever the model before it held
        save_autoencoder(target / HELD, stage.autoencoder, overwrite=True)

    return write


def _fingerprint(autoencoder: AutoencoderLike) -> str:
    assert isinstance(autoencoder, nn.Module)
    return fingerprint(autoencoder)
