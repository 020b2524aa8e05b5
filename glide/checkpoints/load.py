"""Save and load diffusion models by name: folders, embedded models, published files, or the hub."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.model_folder import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    load_weights,
    read_config,
    read_tokenizer,
    write_folder,
)
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.utils.config_check import blank
from glide.utils.errors import InputError, one_line
from glide.utils.filesystem import is_remote
from glide.utils.hub import HUB_ID, commit_of, hub_folder
from glide.utils.numbers import shown_number

__all__ = ["embedded_models", "load_model", "read_config", "read_model_config", "resolve", "save_model"]

KIND = "diffusion"
HUB_FILES = [CONFIG, WEIGHTS, TOKENIZER]
HUB_FILES += [
    "model.safetensors.index.json",
    "model-?????-of-?????.safetensors",
]  # of a large CLIP of transformers
HUB_FILES += ["tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt"]
"""The files to fetch: a model's own, without its training checkpoints and other formats of the same weights."""
EMBEDDED = Path(__file__).parents[1] / "pretrained"


def save_model(
    folder: str | Path,
    model: Model,
    training: Mapping[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write a model folder for `load_model`; see `write_folder` for the state of the folder when writing fails.

    training: JSON-able record of the model's training.
    dtype: of the weights in the file, e.g. torch.float16 for half the size (None: unchanged).
    overwrite: also replace files of another library; an older model of this toolkit is always replaced.
    """
    config, state = model.config.to_dict(), model.state_dict()
    stage = model.config.first_stage
    held = stage is not None and not stage.source

    def write_first_stage(target: Path) -> None:
        from glide.checkpoints.first_stages import save_held

        save_held(target, model)

    write_folder(
        folder,
        KIND,
        config,
        state,
        tokenizer=model.tokenizer,
        training=training,
        dtype=dtype,
        overwrite=overwrite,
        parts=write_first_stage if held else None,
    )


def load_model(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    vocab: str | Callable[[], str] | None = None,
    places: Sequence[Path] = (),
) -> Model:
    """The diffusion model of that name, in eval mode; its files may hold another dtype.

    name: as for `resolve`, or blobfile's path of a published OpenAI `.pt` file.
    vocab: folder or hub id of GLIDE's vocabulary, for the captions of a `.pt` file, which has no tokenizer, or a
    function that returns it.
    places: folders with further embedded models, which are searched first.
    InputError if there is none of that name, or its files are damaged, foreign or do not match.
    """
    if is_remote(name) or (path := resolve(name, *places)).is_file():
        from glide.checkpoints.openai import convert as openai

        return openai.load(name, vocab=vocab).to(device, dtype).eval()
    record = read_config(path, KIND)
    tokenizer = read_tokenizer(path, record)
    model = blank(lambda: Model(ModelConfig.from_dict(record["model"])), f"{path / CONFIG}")
    text = model.config.text
    if tokenizer and text and (tokenizer.n_vocab > text.vocab or tokenizer.context != text.context):
        raise InputError(
            f"the tokenizer in {path} has {tokenizer.n_vocab} tokens and context {tokenizer.context}, "
            f"the model {text.vocab} and {text.context}: give files of one model"
        )
    load_weights(model, path, device)
    model.tokenizer, model.commit = tokenizer, commit_of(path)
    if model.config.first_stage is not None:
        from glide.checkpoints.first_stages import first_stage_of

        model.first_stage = first_stage_of(model.config.first_stage, path)
    return model.to(dtype).eval()


def read_model_config(name: str | Path) -> ModelConfig:
    """The configuration of the diffusion model of that name, without its weights. Names and errors as `load_model`."""
    if is_remote(name) or (path := resolve(name)).is_file():
        from glide.checkpoints.openai import convert as openai
        from glide.checkpoints.openai.options import model_config

        if is_remote(name):
            return model_config(openai.options_for(str(name)))
        return model_config(openai.options_of(str(path), openai.read_state_dict(str(path))))
    try:
        return ModelConfig.from_dict(read_config(path, KIND)["model"])
    except InputError as error:
        raise InputError(f"{path / CONFIG}: {error}") from error


def embedded_models(*places: Path) -> list[str]:
    """Names of the models embedded in the package, and of those in `places`."""
    return sorted({file.parent.name for place in (*places, EMBEDDED) for file in place.glob(f"*/{CONFIG}")})


def resolve(name: str | Path, *places: Path) -> Path:
    """The path of a model's files: a model folder, or one published OpenAI `.pt` file.

    name: a folder, the name of an embedded model, a `.pt` file, or a hub id "org/name" (downloaded if needed);
    tried in this order. places: folders with further embedded models, which are searched first.
    InputError if it is none of them, with the nearest embedded name as a suggestion.
    """
    path, text = Path(name), str(name)
    embedded = embedded_models(*places)
    try:
        path.exists()
    except (OSError, ValueError) as error:  # a name too long or with a zero byte, a folder without permission
        raise InputError(
            f"there is no model {shown_number(text)} ({one_line(error)[:80]}): check the name"
        ) from error
    if path.is_dir() and ((path / CONFIG).exists() or text not in embedded):
        return path
    if text in embedded:
        return next(place / text for place in (*places, EMBEDDED) if (place / text / CONFIG).exists())
    if path.suffix == ".pt" and path.is_file():
        return path
    if path.is_file():
        raise InputError(f"{name} is a file: give the model's folder, or a published OpenAI .pt file")
    if HUB_ID.fullmatch(text) and path.suffix != ".pt":
        return hub_folder(text, HUB_FILES)
    if path.suffix == ".pt":
        raise InputError(f"there is no file {name}: check the path")
    near = difflib.get_close_matches(text, embedded, n=1)
    known = ", ".join(embedded) or "none"
    hint = (
        f"did you mean {near[0]!r}?"
        if near
        else "give a folder, a .pt file, a hub id (org/name) or one of these"
    )
    raise InputError(f"there is no model {text!r}; embedded models: {known}: {hint}")


GLIDE_VOCABULARY = "openai-community/gpt2"
"""Hub id of GLIDE's vocabulary, which is GPT-2's byte-level BPE."""


def load_with_vocabulary(
    name: str | Path, device: torch.device, vocab: str | None = None, places: Sequence[Path] = ()
) -> Model:
    """The diffusion model of that name, as `load_model`; a published text model gets its vocabulary, too.

    vocab: folder or hub id of the vocabulary of a published `.pt` file; None: GLIDE's, from the hub.
    places: folders with further embedded models, which are searched first.
    InputError for a vocabulary that is not available or does not fit, or for a model with its own or without captions.
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
