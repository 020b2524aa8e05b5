"""A model by name with the vocabulary of its captions, which published checkpoints come without."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from glide.checkpoints.load import load_model
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.hub import hub_folder

GLIDE_VOCABULARY = "openai-community/gpt2"
"""Hub id of GPT-2's byte-level BPE, which is GLIDE's."""


def load_with_vocabulary(
    name: str | Path, device: torch.device, vocab: str | None = None, places: Sequence[Path] = ()
) -> Model:
    """The diffusion model of that name, as `load_model`, able to read captions if it is a text model.

    vocab: folder or hub id of the vocabulary of a published `.pt` file; None: GLIDE's, from the hub.
    places: folders with further embedded models, which are looked through first.
    InputError where it cannot be had, does not fit, or the model has its own or reads no captions.
    """
    published = str(name).endswith(".pt")
    if vocab is not None and not published:
        raise InputError(
            f"got a vocabulary for {name}, which is no published .pt file, expected none: leave it out"
        )
    from_hub = partial(_from_hub, name) if published else None
    return load_model(name, device, vocab=from_hub if vocab is None else vocab, places=places)


def _from_hub(name: str | Path) -> str:
    try:
        return str(hub_folder(GLIDE_VOCABULARY, ["vocab.json", "merges.txt"]))
    except InputError as error:
        raise InputError(
            f"{name} reads captions by the vocabulary {GLIDE_VOCABULARY}, which the hub did not give: connect to it, "
            "or give a folder with its vocab.json and merges.txt (--vocab)"
        ) from error
