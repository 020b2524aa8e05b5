"""Model folders of autoencoders, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.model_folder import CONFIG, load_weights, read_config, write_folder
from glide.checkpoints.names import resolve
from glide.networks.autoencoder import Autoencoder
from glide.networks.autoencoder_config import AutoencoderConfig
from glide.utils.config_check import blank

KIND = "autoencoder"


def save_autoencoder(
    folder: str | Path,
    model: Autoencoder,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder for `load_autoencoder`; arguments and errors as `glide.checkpoints.load.save_model`."""
    config, state = model.config.to_dict(), model.state_dict()
    write_folder(folder, KIND, config, state, training=training, dtype=dtype, overwrite=overwrite)


def load_autoencoder(name: str | Path, device: str | torch.device = "cpu") -> Autoencoder:
    """The autoencoder of that name, float32, in eval mode, without gradients.

    name: as for `glide.checkpoints.names.resolve`. InputError if there is none of that name, it is another kind of
    model, or its files are damaged.
    """
    path = resolve(name, published=None)
    record = read_config(path, KIND)
    model = blank(lambda: Autoencoder(AutoencoderConfig.from_dict(record["model"])), f"{path / CONFIG}")
    load_weights(model, path, device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model.eval().requires_grad_(False)
