"""Save and load diffusion models by name: folders, embedded models, published files, or the hub."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from glide.checkpoints.diffusers_pipelines import is_pipeline, load_pipeline, read_pipeline
from glide.checkpoints.fetch_published import DIFFUSION, check_kind
from glide.checkpoints.first_stages import first_stage_of, held_in_folder
from glide.checkpoints.model_folder import CONFIG, load_weights, read_config, read_tokenizer, write_folder
from glide.checkpoints.names import embedded_models, model_place, published_model, resolve
from glide.checkpoints.text_encoders import FOLDER, encoder_of, save_encoder
from glide.networks.config import ModelConfig
from glide.networks.diffusers_model import DiffusersModel
from glide.networks.frozen_text_encoder import FrozenText
from glide.networks.model import Model
from glide.utils.config_check import blank
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from glide.utils.hub import commit_of, hub_folder

__all__ = ["embedded_models", "load_model", "read_config", "read_model_config", "resolve", "save_model"]

KIND = "diffusion"


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
    if isinstance(model, DiffusersModel):
        raise InputError(
            "got a model of diffusers to save, expected one of this project: copy its own folder instead"
        )
    config, state = model.config.to_dict(), model.state_dict()
    frozen = model.text if isinstance(model.text, FrozenText) else None
    write_held = held_in_folder(model.config.first_stage, model.first_stage)

    def write_parts(target: Path) -> None:
        if write_held is not None:
            write_held(target)
        if frozen is not None and frozen.encoder is not None and frozen.config.embedded:
            save_encoder(frozen.encoder, target / FOLDER)

    write_folder(
        folder,
        KIND,
        config,
        state,
        tokenizer=model.tokenizer if frozen is None else None,  # the encoder has its own
        training=training,
        dtype=dtype,
        overwrite=overwrite,
        parts=write_parts,
    )


def load_model(
    name: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    vocab: str | Callable[[], str] | None = None,
    places: Sequence[Path] = (),
) -> Model:
    """The diffusion model of that name, in eval mode; its files may hold another dtype.

    name: as for `resolve`, a pipeline of diffusers among them, or blobfile's path of a published OpenAI `.pt` file.
    vocab: folder or hub id of GLIDE's vocabulary, for the captions of a `.pt` file, which has no tokenizer, or a
    function that returns it.
    places: folders with further embedded models, which are searched first.
    InputError if there is none of that name, or its files are damaged, foreign or do not match.
    """
    if is_remote(name) or (path := model_place(name, *places)).is_file():
        from glide.checkpoints.openai import convert as openai

        return openai.load(name, vocab=vocab).to(device, dtype).eval()
    if is_pipeline(path):
        return load_pipeline(name, path, device).to(dtype)
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
        model.first_stage = first_stage_of(model.config.first_stage, path)
    if model.config.text_encoder is not None:
        model.use_encoder(encoder_of(model.config.text_encoder, path))
    return model.to(dtype).eval()


def read_model_config(name: str | Path) -> ModelConfig:
    """The configuration of the diffusion model of that name, without its weights. Names and errors as `load_model`.

    Of a published model nothing is fetched.
    """
    if (published := published_model(name)) is not None:
        from glide.checkpoints.openai.options import model_config

        check_kind(published, DIFFUSION.kind)
        return model_config(published.options)
    if is_remote(name) or (path := model_place(name)).is_file():
        from glide.checkpoints.openai import convert as openai
        from glide.checkpoints.openai.options import model_config

        if is_remote(name):
            return model_config(openai.options_for(str(name)))
        return model_config(openai.options_of(str(path), openai.read_state_dict(str(path))))
    if is_pipeline(path):
        return read_pipeline(path).config
    try:
        return ModelConfig.from_dict(read_config(path, KIND)["model"])
    except InputError as error:
        raise InputError(f"{path / CONFIG}: {error}") from error


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
