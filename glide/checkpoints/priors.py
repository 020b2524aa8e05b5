"""Model folders of priors, by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.model_folder import (
    CONFIG,
    load_weights,
    read_config,
    read_tokenizer,
    write_folder,
)
from glide.checkpoints.names import resolve
from glide.networks.prior import Prior
from glide.networks.prior_config import PriorConfig
from glide.utils.config_check import blank
from glide.utils.errors import InputError

KIND = "prior"


def save_prior(
    folder: str | Path,
    prior: Prior,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder for `load_prior`; arguments and errors as `glide.checkpoints.load.save_model`."""
    write_folder(
        folder,
        KIND,
        prior.config.to_dict(),
        prior.state_dict(),
        tokenizer=prior.tokenizer,
        training=training,
        dtype=dtype,
        overwrite=overwrite,
    )


def load_prior(name: str | Path, device: str | torch.device = "cpu") -> Prior:
    """The prior of that name, float32, in eval mode.

    name: as for `glide.checkpoints.names.resolve`. InputError if there is none of that name, it is another kind of
    model, or its files are damaged.
    """
    path = resolve(name, published=None)
    if path.is_file():
        raise InputError(f"{name} is no prior, expected a folder of train_prior.py: give one")
    record = read_config(path, KIND)
    tokenizer = read_tokenizer(path, record)
    prior = blank(lambda: Prior(PriorConfig.from_dict(record["model"]), tokenizer), f"{path / CONFIG}")
    text = prior.config.text
    if tokenizer and (tokenizer.n_vocab > text.vocab or tokenizer.context != text.context):
        raise InputError(
            f"the tokenizer of {path} has {tokenizer.n_vocab} tokens and context {tokenizer.context}, the prior "
            f"{text.vocab} and {text.context}: give files of one prior"
        )
    load_weights(prior, path, device)
    return prior.eval()
