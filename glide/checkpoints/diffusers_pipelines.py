"""Pipelines of diffusers as models of this project: their networks by diffusers, all else by this project.

A pipeline is a folder, or a repository of the hub, with a model_index.json. Its network is diffusers' own class, its
process comes from its scheduler's settings (`glide.checkpoints.diffusers_schedulers`). Weights are read from
safetensors alone: no code of a repository runs, and no pickle is opened.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.diffusers_autoencoder_configs import CONFIGS
from glide.checkpoints.diffusers_autoencoders import WEIGHTS, autoencoder_config, load_any_autoencoder
from glide.checkpoints.diffusers_kinds import KINDS, Kind
from glide.checkpoints.diffusers_networks import (
    Settings,
    UNetSettings,
    class_names,
    digest_text,
    load_network,
    read_settings,
)
from glide.checkpoints.diffusers_schedulers import SchedulerConfig, ScoreConfig, read_scheduler
from glide.checkpoints.diffusers_text import (
    ENCODER_FILES,
    TOKENIZER_FILES,
    load_prompt_encoder,
    read_prompt_config,
)
from glide.checkpoints.model_folder import CONFIG, MAX_CONFIG
from glide.checkpoints.names import PIPELINE, PIPELINE_SETTINGS, SCHEDULER, resolve
from glide.checkpoints.provenance import fingerprint
from glide.networks.config import FirstStageConfig, ModelConfig
from glide.networks.diffusers_model import DiffusersModel, DiffusersUNet
from glide.networks.diffusers_score import DiffusersScoreUNet
from glide.networks.diffusers_transformer import DiffusersTransformer
from glide.networks.first_stage import FirstStage, LatentStage
from glide.networks.frozen_text_config import FrozenTextConfig
from glide.networks.masked_latents import MaskedLatents
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID, commit_of
from glide.utils.json_files import as_table, read_table
from glide.utils.numbers import shown_number

TOKENIZER = "tokenizer"
WRAPPERS: dict[str, type[DiffusersUNet]] = {"DiTTransformer2DModel": DiffusersTransformer}
"""Networks that are no U-Nets, by their class."""


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline whose settings were read and checked; its weights may still be on the hub."""

    place: Path
    kind: Kind
    network: dict[str, Any]  # its config.json
    scheduler: SchedulerConfig | ScoreConfig
    config: ModelConfig

    def part(self, name: str) -> Path:
        """The folder of a component. Early pipelines hold all in one folder."""
        return _part(self.place, name)


def is_pipeline(path: Path) -> bool:
    """True for a folder of a pipeline of diffusers."""
    return (path / PIPELINE).is_file()


def read_pipeline(place: Path) -> PipelineFolder:
    """The settings in a pipeline's folder. InputError for a kind that is not supported, and for damaged settings."""
    index = read_table(place / PIPELINE, max_bytes=MAX_CONFIG)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in KINDS:
        raise InputError(
            f"got {place}, a {shown_number(name)} of diffusers, expected one of {', '.join(KINDS)}: give another model"
        )
    kind = KINDS[name]
    known, folder = class_names(kind.network), kind.folder
    if index.get(folder) not in [["diffusers", known_name] for known_name in known]:
        raise InputError(
            f"got {place / PIPELINE} with the {folder} {shown_number(index.get(folder))}, expected a {kind.network} of "
            "diffusers: give another model"
        )
    network = read_table(_settings(place, folder, CONFIG), max_bytes=MAX_CONFIG)
    if network.get("_class_name") not in known:
        raise InputError(
            f"got a {shown_number(network.get('_class_name'))} as the {folder} of {place}, expected a {kind.network}: "
            "give files of one model"
        )
    scheduler = read_scheduler(_settings(place, "scheduler", SCHEDULER))
    where = str(_part(place, folder) / CONFIG)
    settings = read_settings(kind.network, network, where)
    if settings.time_embedding_type != scheduler.time_embedding:
        raise InputError(
            f"got {where} with time_embedding_type {settings.time_embedding_type!r}, expected "
            f"{scheduler.time_embedding}, as its scheduler's process has: give another model"
        )
    latents, planes = _latents(kind, settings, place) if kind.autoencoder else (None, 0)
    config = ModelConfig(
        unet=settings.sizes(settings.in_channels - planes),
        num_classes=settings.num_classes,
        null_class=settings.null_class and settings.num_classes > 0,
        class_names=_class_names(index.get("id2label"), settings.num_classes, place / PIPELINE),
        inpaint=planes > 0,
        process=scheduler.process(settings.in_channels - planes, settings.out_channels),
        first_stage=latents,
        text_encoder=_captions(kind, settings, place) if kind.text else None,
    )
    return PipelineFolder(place, kind, network, scheduler, checked(config, where))


def load_pipeline(name: str | Path, place: Path, device: str | torch.device) -> DiffusersModel:
    """The model of a pipeline, float32, in eval mode.

    place: its folder, or its settings from the hub, whose other files are then fetched. InputError as `read_pipeline`,
    where diffusers is not installed, and for weights that are missing, damaged or no safetensors.
    """
    found = read_pipeline(place)
    if HUB_ID.fullmatch(str(name)) and (commit := commit_of(place)) and not Path(name).exists():
        place = resolve(f"{str(name).partition('@')[0]}@{commit}", files=_files(found))
        found = read_pipeline(place)
    kind, config = found.kind, found.config
    network = load_network(kind.network, found.part(kind.folder), found.network, device)
    unet = _in_place_of_unet(network, found)
    stage, prompts = FirstStage(), None
    if config.first_stage is not None:
        autoencoder = load_any_autoencoder(place / kind.autoencoder, device)
        of_pixels = replace(config.first_stage, fingerprint=fingerprint(autoencoder))
        config = replace(config, first_stage=of_pixels)
        stage = LatentStage(autoencoder, of_pixels)
        stage.shows_pixels = config.inpaint
    if config.text_encoder is not None:
        prompts = load_prompt_encoder(place / kind.text, place / TOKENIZER)
        config = replace(config, text_encoder=replace(config.text_encoder, fingerprint=prompts.fingerprint))
    if kind.clips:
        stage.bound = found.scheduler.bound
    origin = _origin(found.network, found.scheduler, config)
    parts = (MaskedLatents(config),) if config.inpaint else ()
    model = DiffusersModel(config, unet, stage, prompts, origin, parts)
    model.commit = commit_of(place)
    return model.to(device).eval().requires_grad_(False)


def _in_place_of_unet(network: Any, found: PipelineFolder) -> DiffusersUNet:
    """A network of diffusers, called as a U-Net is."""
    config = found.config
    if isinstance(found.scheduler, ScoreConfig):
        return DiffusersScoreUNet(network, config.unet, config.process.build())
    return WRAPPERS.get(found.kind.network, DiffusersUNet)(network, config.unet)


def _files(found: PipelineFolder) -> list[str]:
    """The files of a repository that the pipeline needs."""
    kind = found.kind
    files = [*PIPELINE_SETTINGS, f"{kind.folder}/{WEIGHTS}"]
    if found.part(kind.folder) == found.place:
        files.append(WEIGHTS)
    if kind.autoencoder:
        files.append(f"{kind.autoencoder}/{WEIGHTS}")
    if kind.text:
        files += [f"{kind.text}/{file}" for file in ENCODER_FILES]
        files += [f"{TOKENIZER}/{file}" for file in TOKENIZER_FILES]
    return files


def _part(place: Path, name: str) -> Path:
    return place / name if (place / name).is_dir() else place


def _settings(place: Path, part: str, file: str) -> Path:
    """The file of a component's settings. InputError where it is missing."""
    path = _part(place, part) / file
    if not path.is_file():
        raise InputError(
            f"got a pipeline of diffusers without {part}/{file} in {place}, expected its {part} there: fetch the "
            "whole folder"
        )
    return path


def _latents(kind: Kind, settings: Settings, place: Path) -> tuple[FirstStageConfig, int]:
    """The autoencoder of a pipeline of latents, and the number of planes that its network receives besides them.

    InputError where they do not fit each other.
    """
    where = _settings(place, kind.autoencoder, CONFIG)
    table = read_table(where, max_bytes=MAX_CONFIG)
    name = table.get("_class_name")
    if name not in kind.autoencoders:
        raise InputError(
            f"got {where} of a {shown_number(name)}, expected an {' or a '.join(kind.autoencoders)}: give another model"
        )
    latents = autoencoder_config(CONFIGS[name], table, str(where))
    channels = latents.latent_channels
    planes = settings.in_channels - channels
    # the mask and the masked picture's latents, where captions are read, as by Stable Diffusion's
    if planes != 0 and (planes != channels + 1 or not kind.text):
        raise InputError(
            f"got a {kind.folder} of {settings.in_channels} input channels for latents of {channels} in {place}, "
            "expected as many, or those of a mask and a masked picture besides (one that is made to enlarge has "
            "others): give another model"
        )
    return FirstStageConfig(source=str(place), factor=latents.factor, channels=latents.in_channels), planes


def _captions(kind: Kind, settings: Settings, place: Path) -> FrozenTextConfig:
    """The text encoder of a pipeline. InputError where it does not fit the network."""
    assert isinstance(settings, UNetSettings)
    width, context = read_prompt_config(_settings(place, kind.text, CONFIG).parent)
    if settings.cross_attention_dim != width or settings.num_classes:
        raise InputError(
            f"got a {kind.folder} for tokens {settings.cross_attention_dim} wide and {settings.num_classes} classes in "
            f"{place}, expected {width} as of its text encoder, and no classes: give another model"
        )
    return FrozenTextConfig(
        kind="clip", source=str(place), encoder_width=width, width=width, context=context, pooled="none"
    )


def _class_names(labels: object, classes: int, path: Path) -> tuple[str, ...]:
    """The names of classes by the table "id2label"; () where there is none. InputError for numbers of no class."""
    if labels is None or not classes:
        return ()
    table = as_table(labels, path)
    numbers = {str(number): number for number in range(classes)}
    unknown = [key for key in table if key not in numbers]
    if unknown or not all(isinstance(name, str) for name in table.values()):
        raise InputError(
            f"got {path} with an id2label of {shown_number(unknown[0] if unknown else 'other values')}, expected names "
            f"of the classes 0 to {classes - 1}: give files of one model"
        )
    return tuple(table.get(key, key) for key in numbers)


def _origin(network: dict[str, Any], scheduler: SchedulerConfig | ScoreConfig, config: ModelConfig) -> bytes:
    """Digest of the settings and other networks by which the same weights draw other pictures."""
    others = [part.fingerprint for part in (config.first_stage, config.text_encoder) if part is not None]
    whole = f"{digest_text(network)} {scheduler} {others}"
    return hashlib.sha256(whole.encode()).digest()[:8]
