"""The networks of diffusers that stand in a U-Net's place: their settings checked, their weights loaded."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch

from glide.checkpoints.diffusers_autoencoders import WEIGHTS, current_name, diffusers_class
from glide.checkpoints.model_folder import CONFIG, load_weights
from glide.networks.config import UNetConfig
from glide.utils.config_check import Entries, blank, config_from_dict
from glide.utils.errors import InputError
from glide.utils.numbers import Range, shown_number

UNSET = (
    "class_embed_type",
    "addition_embed_type",
    "encoder_hid_dim",
    "encoder_hid_dim_type",
    "time_cond_proj_dim",
)
"""Settings of inputs that other kinds of networks have; each must be unset."""


@dataclass(frozen=True)
class UNetSettings:
    """The settings of a UNet2DModel or UNet2DConditionModel that are read here; diffusers reads all of them."""

    names: ClassVar[tuple[str, ...]] = ()
    null_class: ClassVar[bool] = False
    sample_size: Annotated[int, Range(1, 16384)]
    in_channels: Annotated[int, Range(1, 1024)] = 3
    out_channels: Annotated[int, Range(1, 2048)] = 3
    block_out_channels: Annotated[tuple[int, ...], Range(1, 65536), Entries(12)] = (224, 448, 672, 896)
    layers_per_block: Annotated[int, Range(1, 100)] = 2
    num_class_embeds: Annotated[int, Range(0, 2**24)] = 0
    cross_attention_dim: Annotated[int, Range(1, 65536)] = 1280
    transformer_layers_per_block: Annotated[int, Range(1, 100)] = 1
    time_embedding_type: Literal["positional", "fourier"] = "positional"

    @property
    def num_classes(self) -> int:
        return self.num_class_embeds

    def sizes(self, in_channels: int) -> UNetConfig:
        """The same in this project's words, for messages and checks. in_channels: of x_t."""
        first = self.block_out_channels[0]
        return UNetConfig(
            image_size=self.sample_size,
            in_channels=in_channels,
            out_channels=self.out_channels,
            channels=first,
            channel_mult=tuple(width / first for width in self.block_out_channels),
            num_res_blocks=self.layers_per_block,
            attention=(),
            head_channels=0,
            resblock_updown=False,
        )


@dataclass(frozen=True)
class TransformerSettings:
    """The settings of a DiTTransformer2DModel that are read here, with diffusers' defaults."""

    names: ClassVar[tuple[str, ...]] = ("Transformer2DModel",)
    """Other names of the class in files: what it was called before it had its own."""
    null_class: ClassVar[bool] = True
    time_embedding_type: ClassVar[str] = "positional"
    sample_size: Annotated[int, Range(1, 16384)] = 32
    in_channels: Annotated[int, Range(1, 1024)] = 4
    out_channels: Annotated[int, Range(1, 2048)] = 0
    num_layers: Annotated[int, Range(1, 100)] = 28
    num_attention_heads: Annotated[int, Range(1, 1024)] = 16
    attention_head_dim: Annotated[int, Range(1, 1024)] = 72
    patch_size: Literal[1, 2, 4] = 2
    num_embeds_ada_norm: Annotated[int, Range(1, 2**24)] = 1000
    norm_type: Literal["ada_norm_zero"] = "ada_norm_zero"

    @property
    def num_classes(self) -> int:
        return self.num_embeds_ada_norm

    def sizes(self, in_channels: int) -> UNetConfig:
        """The same in this project's words, for messages and checks. in_channels: of x_t."""
        return UNetConfig(
            image_size=self.sample_size,
            in_channels=in_channels,
            out_channels=self.out_channels,
            channels=self.num_attention_heads * self.attention_head_dim,
            channel_mult=(1.0,),
            num_res_blocks=self.num_layers,
            attention=(),
            head_channels=0,
            resblock_updown=False,
            patch_size=self.patch_size,
        )


Settings = UNetSettings | TransformerSettings
SETTINGS: dict[str, type[UNetSettings] | type[TransformerSettings]] = {
    "UNet2DModel": UNetSettings,
    "UNet2DConditionModel": UNetSettings,
    "DiTTransformer2DModel": TransformerSettings,
}
"""By the class of the network."""


def class_names(network: str) -> tuple[str, ...]:
    """The names that files have for the class of a network, its own first."""
    return (network, *SETTINGS[network].names)


def read_settings(network: str, record: dict[str, Any], where: str) -> Settings:
    """The settings of a network. record, where: its config.json. InputError for sizes out of all reason, and for kinds
    that are not supported."""
    size = record.get("sample_size")
    if isinstance(size, list) and len(size) == 2 and size[0] == size[1]:
        size = size[0]
    if not isinstance(size, int):
        raise InputError(
            f"got {where} with sample_size {shown_number(size)}, expected one length: give a model of square pictures"
        )
    for setting in UNSET:
        if record.get(setting) is not None:
            raise InputError(
                f"got {where} with {setting} {shown_number(record[setting])}, expected none: give another model"
            )
    kind = SETTINGS[network]
    known = kind.__dataclass_fields__
    given = {key: value for key, value in record.items() if key in known and value is not None}
    if kind is TransformerSettings:
        given.setdefault("out_channels", given.get("in_channels", 4))
    return config_from_dict(kind, given | {"sample_size": size}, where)


def load_network(name: str, folder: Path, record: dict[str, Any], device: str | torch.device) -> Any:
    """The network of diffusers in a folder with its weights, float32. name: its class. record: its config.json.

    InputError for weights that are missing or do not fit, and settings that this version of diffusers does not know.
    """
    make = diffusers_class(name)
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"there is no {WEIGHTS} in {folder}, expected weights as safetensors (a .bin file is a pickle, which can "
            "run code, and is not read): give a folder or a revision with them"
        )
    known: Sequence[str] = list(inspect.signature(make.__init__).parameters)
    settings = own_settings(record)
    unknown = [key for key, value in settings.items() if key not in known and value not in (None, False)]
    if unknown:
        raise InputError(
            f"got {folder / CONFIG} with {unknown[0]}, which the installed diffusers does not know, expected settings "
            "of its version: update diffusers"
        )
    settings = {key: value for key, value in settings.items() if key in known}
    network = blank(lambda: make(**settings), str(folder / CONFIG))
    load_weights(network, folder, device, WEIGHTS, current_name)
    if SETTINGS[name] is TransformerSettings:
        _fill_positions(network, device)
    return network


def own_settings(record: dict[str, Any]) -> dict[str, Any]:
    """The settings in a config.json, without the notes that diffusers adds."""
    return {key: value for key, value in record.items() if not key.startswith("_")}


def _fill_positions(network: Any, device: str | torch.device) -> None:
    """Fill in the embeddings of a transformer's positions, which are computed and in no file."""
    patches, sizes = network.pos_embed, network.config
    with torch.random.fork_rng(devices=[]):  # its other weights are random, and dropped
        computed = type(patches)(
            height=sizes.sample_size,
            width=sizes.sample_size,
            patch_size=sizes.patch_size,
            in_channels=sizes.in_channels,
            embed_dim=network.inner_dim,
        )
    patches.pos_embed = computed.pos_embed.to(device)


def digest_text(record: dict[str, Any]) -> str:
    """The settings of a network as one line, of which a model's fingerprint takes a digest."""
    return json.dumps(own_settings(record), sort_keys=True)
