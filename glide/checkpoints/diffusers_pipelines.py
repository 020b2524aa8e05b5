"""Pipelines of diffusers as models of this project: their networks by diffusers, all else by this project.

A pipeline is a folder, or a repository of the hub, with a model_index.json. Its network is diffusers' own class, its
process comes from its scheduler's settings (`glide.checkpoints.diffusers_schedulers`). Weights are read from
safetensors alone: no code of a repository runs, and no pickle is opened.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch

from glide.checkpoints.diffusers_autoencoders import (
    WEIGHTS,
    KLConfig,
    autoencoder_config,
    current_name,
    diffusers_class,
    load_any_autoencoder,
)
from glide.checkpoints.diffusers_schedulers import SchedulerConfig, read_scheduler
from glide.checkpoints.diffusers_text import (
    ENCODER_FILES,
    TOKENIZER_FILES,
    load_prompt_encoder,
    read_prompt_config,
)
from glide.checkpoints.model_folder import CONFIG, MAX_CONFIG, load_weights
from glide.checkpoints.names import PIPELINE, PIPELINE_SETTINGS, SCHEDULER, resolve
from glide.checkpoints.provenance import fingerprint
from glide.networks.config import FirstStageConfig, ModelConfig, UNetConfig
from glide.networks.diffusers_model import DiffusersModel, DiffusersUNet
from glide.networks.first_stage import FirstStage, LatentStage
from glide.networks.frozen_text_config import FrozenTextConfig
from glide.utils.config_check import Entries, blank, checked, config_from_dict
from glide.utils.errors import InputError
from glide.utils.hub import HUB_ID, commit_of
from glide.utils.json_files import read_table
from glide.utils.numbers import Range, shown_number

LATENT = "UNet2DConditionModel"
PIPELINES = {
    "DDPMPipeline": "UNet2DModel",
    "DDIMPipeline": "UNet2DModel",
    "PNDMPipeline": "UNet2DModel",
    "StableDiffusionPipeline": LATENT,
    "StableDiffusionImg2ImgPipeline": LATENT,
}
"""Supported pipelines, with the class of their network."""


UNSET = (
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)
"""Settings of inputs that other kinds of networks have; each must be unset."""


@dataclass(frozen=True)
class NetworkConfig:
    """The settings of a network that are read here; diffusers reads all of them."""

    sample_size: Annotated[int, Range(1, 16384)]
    in_channels: Annotated[int, Range(1, 1024)] = 3
    out_channels: Annotated[int, Range(1, 2048)] = 3
    block_out_channels: Annotated[tuple[int, ...], Range(1, 65536), Entries(12)] = (224, 448, 672, 896)
    layers_per_block: Annotated[int, Range(1, 100)] = 2
    num_class_embeds: Annotated[int, Range(0, 2**24)] = 0
    cross_attention_dim: Annotated[int, Range(1, 65536)] = 1280
    transformer_layers_per_block: Annotated[int, Range(1, 100)] = 1

    def sizes(self) -> UNetConfig:
        """The same in this project's words, for messages and checks."""
        first = self.block_out_channels[0]
        return UNetConfig(
            image_size=self.sample_size,
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            channels=first,
            channel_mult=tuple(width / first for width in self.block_out_channels),
            num_res_blocks=self.layers_per_block,
            attention=(),
            head_channels=0,
            resblock_updown=False,
        )


@dataclass(frozen=True)
class PipelineFolder:
    """A pipeline whose settings were read and checked; its weights may still be on the hub."""

    place: Path
    network_class: str
    network: dict[str, Any]  # its config.json
    scheduler: SchedulerConfig
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
    if not isinstance(name, str) or name not in PIPELINES:
        raise InputError(
            f"got {place}, a {shown_number(name)} of diffusers, expected one of {', '.join(PIPELINES)}: give another "
            "model"
        )
    expected = PIPELINES[name]
    if index.get("unet") != ["diffusers", expected]:
        raise InputError(
            f"got {place / PIPELINE} with the unet {shown_number(index.get('unet'))}, expected a {expected} of "
            "diffusers: give another model"
        )
    network = read_table(_settings(place, "unet", CONFIG), max_bytes=MAX_CONFIG)
    if network.get("_class_name") != expected:
        raise InputError(
            f"got a {shown_number(network.get('_class_name'))} as the unet of {place}, expected a {expected}: give "
            "files of one model"
        )
    scheduler = read_scheduler(_settings(place, "scheduler", SCHEDULER))
    where = str(_part(place, "unet") / CONFIG)
    sizes = _network_config(network, where)
    config = ModelConfig(
        unet=sizes.sizes(),
        num_classes=sizes.num_class_embeds,
        process=scheduler.process(sizes.in_channels, sizes.out_channels),
    )
    if expected == LATENT:
        config = _with_latents_and_captions(config, sizes, place)
    return PipelineFolder(place, expected, network, scheduler, checked(config, where))


def load_pipeline(name: str | Path, place: Path, device: str | torch.device) -> DiffusersModel:
    """The model of a pipeline, float32, in eval mode.

    place: its folder, or its settings from the hub, whose other files are then fetched. InputError as `read_pipeline`,
    where diffusers is not installed, and for weights that are missing, damaged or no safetensors.
    """
    found = read_pipeline(place)
    if HUB_ID.fullmatch(str(name)) and (commit := commit_of(place)) and not Path(name).exists():
        files = [*PIPELINE_SETTINGS, f"unet/{WEIGHTS}"]
        if found.part("unet") == place:
            files.append(WEIGHTS)
        if found.network_class == LATENT:
            files += [f"vae/{WEIGHTS}", *(f"text_encoder/{file}" for file in ENCODER_FILES)]
            files += [f"tokenizer/{file}" for file in TOKENIZER_FILES]
        place = resolve(f"{str(name).partition('@')[0]}@{commit}", files=files)
        found = read_pipeline(place)
    unet = DiffusersUNet(_network(found, device), found.config.unet)
    stage, prompts, config = FirstStage(), None, found.config
    stage.bound = found.scheduler.bound
    if config.first_stage is not None and config.text_encoder is not None:
        autoencoder = load_any_autoencoder(place / "vae", device)
        prompts = load_prompt_encoder(place / "text_encoder", place / "tokenizer")
        of_pixels = replace(config.first_stage, fingerprint=fingerprint(autoencoder))
        of_captions = replace(config.text_encoder, fingerprint=prompts.fingerprint)
        config = replace(config, first_stage=of_pixels, text_encoder=of_captions)
        stage = LatentStage(autoencoder, of_pixels)
    model = DiffusersModel(config, unet, stage, prompts, _origin(found.network, found.scheduler, config))
    model.commit = commit_of(place)
    return model.to(device).eval().requires_grad_(False)


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


def _network_config(record: dict[str, Any], where: str) -> NetworkConfig:
    """The settings of a network. InputError for sizes out of all reason, and kinds that are not supported."""
    size = record.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if not isinstance(size, int):
        raise InputError(
            f"got {where} with sample_size {shown_number(size)}, expected one length: give a model of square pictures"
        )
    for setting, usual in (("time_embedding_type", "positional"), *((name, None) for name in UNSET)):
        if record.get(setting, usual) != usual:
            raise InputError(
                f"got {where} with {setting} {shown_number(record[setting])}, expected {usual or 'none'}: give "
                "another model"
            )
    known = NetworkConfig.__dataclass_fields__
    given = {key: value for key, value in record.items() if key in known and value is not None}
    return config_from_dict(NetworkConfig, given | {"sample_size": size}, where)


def _with_latents_and_captions(config: ModelConfig, sizes: NetworkConfig, place: Path) -> ModelConfig:
    """The configuration of a model of latents and captions. InputError where its parts do not fit each other."""
    where = _settings(place, "vae", CONFIG)
    table = read_table(where, max_bytes=MAX_CONFIG)
    if table.get("_class_name") != KLConfig.name:
        raise InputError(
            f"got {where} of a {shown_number(table.get('_class_name'))}, expected an {KLConfig.name}: give another "
            "model"
        )
    latents = autoencoder_config(KLConfig, table, str(where))
    width, context = read_prompt_config(_settings(place, "text_encoder", CONFIG).parent)
    if sizes.in_channels != latents.latent_channels:
        raise InputError(
            f"got a unet of {sizes.in_channels} input channels for latents of {latents.latent_channels} in {place}, "
            "expected as many (a network that is made to inpaint or to enlarge has more): give the text-to-image model"
        )
    if sizes.cross_attention_dim != width or sizes.num_class_embeds:
        raise InputError(
            f"got a unet for tokens {sizes.cross_attention_dim} wide and {sizes.num_class_embeds} classes in {place}, "
            f"expected {width} as of its text encoder, and no classes: give another model"
        )
    text = FrozenTextConfig(
        kind="clip", source=str(place), encoder_width=width, width=width, context=context, pooled="none"
    )
    stage = FirstStageConfig(source=str(place), factor=latents.factor, channels=latents.in_channels)
    return replace(config, first_stage=stage, text_encoder=text)


def _network(found: PipelineFolder, device: str | torch.device) -> Any:
    """The network with its weights. InputError for settings that this version of diffusers does not know."""
    folder, make = found.part("unet"), diffusers_class(found.network_class)
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"there is no {WEIGHTS} in {folder}, expected weights as safetensors (a .bin file is a pickle, which can "
            "run code, and is not read): give a folder or a revision with them"
        )
    known: Sequence[str] = list(inspect.signature(make.__init__).parameters)
    settings = {key: value for key, value in found.network.items() if not key.startswith("_")}
    unknown = [key for key, value in settings.items() if key not in known and value not in (None, False)]
    if unknown:
        raise InputError(
            f"got {folder / CONFIG} with {unknown[0]}, which the installed diffusers does not know, expected settings "
            "of its version: update diffusers"
        )
    settings = {key: value for key, value in settings.items() if key in known}
    network = blank(lambda: make(**settings), str(folder / CONFIG))
    load_weights(network, folder, device, WEIGHTS, current_name)
    return network


def _origin(network: dict[str, Any], scheduler: SchedulerConfig, config: ModelConfig) -> bytes:
    """Digest of the settings and other networks by which the same weights draw other pictures."""
    settings = {key: value for key, value in network.items() if not key.startswith("_")}
    others = [part.fingerprint for part in (config.first_stage, config.text_encoder) if part is not None]
    whole = f"{json.dumps(settings, sort_keys=True)} {scheduler} {others}"
    return hashlib.sha256(whole.encode()).digest()[:8]
