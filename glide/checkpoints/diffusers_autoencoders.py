"""Autoencoders of diffusers as first stages: AutoencoderKL, AutoencoderTiny and VQModel, by folder or hub id.

The networks are diffusers' own classes. Configurations are checked here before anything is built from them, and weights
are read from safetensors alone: no code of a repository runs, and no pickle is opened.

Shape letters: N batch, C channels, H W pixels, c latent channels, h w latents.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from glide.checkpoints.autoencoders import load_autoencoder
from glide.checkpoints.diffusers_autoencoder_configs import CONFIGS, Config, KLConfig, VQConfig
from glide.checkpoints.model_folder import CONFIG, MAX_CONFIG, load_weights
from glide.checkpoints.names import HUB_FILES, resolve
from glide.networks.autoencoder import Autoencoder, AutoencoderSizes, padded
from glide.networks.tiles import in_exact_tiles
from glide.utils.atomic_write import atomic_path, write_text
from glide.utils.config_check import blank, config_from_dict
from glide.utils.errors import InputError, reason_of
from glide.utils.json_files import read_table
from glide.utils.numbers import shown_number

WEIGHTS = "diffusion_pytorch_model.safetensors"
PART = "vae"
"""Folder of the autoencoder within a pipeline of diffusers."""
FILES = [*HUB_FILES, WEIGHTS, f"{PART}/{CONFIG}", f"{PART}/{WEIGHTS}"]
"""The files to fetch from the hub."""
TILE, TILE_LATENTS = 1024, 128
"""Side in pixels, and at most in latents, above which an AutoencoderKL works in tiles, and of a tile. Its norms and its
attention see all of a tile, so the result is not exactly that of the whole; attention takes time by the square."""

K = TypeVar("K", bound=Config)


class DiffusersAutoencoder(AutoencoderSizes):
    """An autoencoder of diffusers behind the methods of this project's: `glide.networks.first_stage.AutoencoderLike`.

    Of an AutoencoderKL a latent is the mean. A VQModel's are those before the codebook: its decoder takes the nearest
    entries, and a gradient passes them by. Latents are normalised as diffusers' pipelines do: (z - shift) times the
    scaling factor, or by the mean and the deviation of each channel where the configuration has them.
    """

    config: Config
    shift: Tensor
    scale: Tensor

    def __init__(self, network: Any, config: Config) -> None:
        super().__init__()
        self.network, self.config = network, config
        c = config.latent_channels
        mean = config.latents_mean or (config.shift_factor or 0.0,) * c
        std = config.latents_std or (1.0,) * c
        # a part of the weights' fingerprint: the same network with other latents is another first stage
        self.register_buffer("shift", torch.tensor(mean, dtype=torch.float32)[:, None, None])
        scale = [config.scaling_factor / deviation for deviation in std]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32)[:, None, None])
        if isinstance(config, KLConfig):
            side = min(TILE // config.factor, TILE_LATENTS)
            network.tile_sample_min_size, network.tile_latent_min_size = side * config.factor, side
            network.enable_tiling()

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1] -> normalised latents [N,c,h,w], float32: the mean of each.

        Height and width that are no multiple of the factor are padded with the picture's last row and column. Each
        picture is encoded by itself, a large one in tiles. InputError for another number of channels.
        """
        self._check(x, "pictures", self.picture_channels)
        raw = torch.cat([self._encoded(one[None]) for one in padded(x, self.factor)])
        return (raw.float() - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [N,c,h,w] -> pictures [N,C,H,W] float32, nominally in [-1, 1].

        Each is decoded by itself, a large one in tiles. A gradient passes. InputError for another number of channels.
        """
        self._check(latents, "latents", self.latent_channels)
        raw = latents / self.scale + self.shift
        return torch.cat([self._decoded(one[None]).float() for one in raw])

    def _encoded(self, x: Tensor) -> Tensor:
        if isinstance(self.config, KLConfig):
            return self.network.encode(x).latent_dist.mode()
        if isinstance(self.config, VQConfig):
            return self.network.encode(x).latents
        margin = -(-self.config.reach // self.factor) * self.factor
        return in_exact_tiles(lambda part: self.network.encode(part).latents, x, 1 / self.factor, margin)

    def _decoded(self, z: Tensor) -> Tensor:
        if isinstance(self.config, KLConfig | VQConfig):
            return self.network.decode(z).sample
        margin = -(-self.config.reach // self.factor)
        return in_exact_tiles(lambda part: self.network.decode(part).sample, z, self.factor, margin)

    def _check(self, x: Tensor, what: str, expected: int) -> None:
        if x.shape[1] != expected:
            raise InputError(
                f"got {what} of {x.shape[1]} channels for an autoencoder whose {what} have {expected}, expected as "
                "many: give one that was trained on such pictures"
            )


def load_any_autoencoder(
    name: str | Path, device: str | torch.device = "cpu"
) -> Autoencoder | DiffusersAutoencoder:
    """The autoencoder of that name, float32, in eval mode, without gradients: this project's, or one of diffusers.

    name: as for `load_autoencoder`; or the folder or hub id of an AutoencoderKL, AutoencoderTiny or VQModel of
    diffusers, or of a pipeline with one in vae/. InputError if there is none of that name, it is another kind of
    model, diffusers is not installed, or its files are damaged.
    """
    path = resolve(name, files=FILES, published=None)
    for folder in (path, path / PART):
        if (folder / CONFIG).is_file():
            record = read_table(folder / CONFIG, max_bytes=MAX_CONFIG)
            if "_class_name" in record:
                return _load(folder, record, device)
    return load_autoencoder(path, device)


def save_diffusers_autoencoder(folder: Path, model: DiffusersAutoencoder) -> None:
    """Write a folder that `load_any_autoencoder` and diffusers read. InputError if it cannot be written."""
    config = {"_class_name": model.config.name, **dataclasses.asdict(model.config)}
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.network.state_dict().items()}
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors makes it readable only by its owner
    write_text(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def _load(folder: Path, record: dict[str, Any], device: str | torch.device) -> DiffusersAutoencoder:
    """The autoencoder of diffusers in a folder. record: of its config.json."""
    name, where = record["_class_name"], str(folder / CONFIG)
    if not isinstance(name, str) or name not in CONFIGS:
        raise InputError(
            f"got {folder}, a {shown_number(name)} of diffusers, expected one of {', '.join(CONFIGS)}: give another"
        )
    config = autoencoder_config(CONFIGS[name], record, where)
    if config.in_channels != config.out_channels:
        raise InputError(
            f"got {folder} with pictures of {config.in_channels} channels that become {config.out_channels}, expected "
            "as many: give another autoencoder"
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(
            f"there is no {WEIGHTS} in {folder}, expected weights as safetensors (a .bin file is a pickle, which can "
            "run code, and is not read): give a folder or a revision with them"
        )
    make = diffusers_class(name)
    network = blank(lambda: make(**dataclasses.asdict(config)), where)
    load_weights(network, folder, device, WEIGHTS, current_name)
    return DiffusersAutoencoder(network, config).to(device).eval().requires_grad_(False)


def autoencoder_config(kind: type[K], record: Mapping[str, Any], where: str) -> K:
    """The settings in a config.json. where: the file, for messages. InputError for those that do not fit."""
    known = {field.name for field in dataclasses.fields(kind)}
    return config_from_dict(kind, {key: value for key, value in record.items() if key in known}, where)


def diffusers_class(name: str) -> Any:
    """The class of diffusers of that name. InputError where it cannot be imported."""
    try:
        with warnings.catch_warnings():  # of its own imports
            warnings.simplefilter("ignore")
            import diffusers

            return getattr(diffusers, name)
    except Exception as error:  # a library that it needs may be of another version
        missing = isinstance(error, ModuleNotFoundError) and error.name == "diffusers"
        raise InputError(
            f"got the {name} of diffusers, which "
            + ("is not installed" if missing else f"cannot be imported ({reason_of(error)})")
            + ": pip install 'glide-toolkit[diffusers]'"
        ) from error


_ATTENTION = re.compile(r"(\.attentions\.\d+\.)(query|key|value|proj_attn)\.")
_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def current_name(name: str) -> str:
    """The name of a tensor in today's diffusers. Before its version 0.13 the parts of attention had other names."""
    return _ATTENTION.sub(lambda found: f"{found[1]}{_NAMES[found[2]]}.", name)
