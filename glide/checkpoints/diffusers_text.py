"""The text encoder of a pipeline of diffusers: a CLIP of transformers with its tokenizer, as the pipeline uses them."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from glide.checkpoints.state_dicts import check_finite
from glide.checkpoints.text_encoders import text_fingerprint
from glide.checkpoints.transformers_files import (
    check_model_type,
    check_sizes,
    check_weights,
    from_pretrained,
    load_shared,
    quiet,
)
from glide.networks.diffusers_model import PromptEncoder
from glide.networks.frozen_text_config import MODEL_TYPES
from glide.networks.frozen_text_encoder import FrozenTokenizer
from glide.utils.errors import InputError

WHAT = "text encoder"
ENCODER_FILES = ("model.safetensors",)
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def read_prompt_config(folder: Path) -> tuple[int, int]:
    """Width of the tokens and their number in a caption. InputError for another encoder than a CLIP of transformers."""
    table = check_model_type(folder, MODEL_TYPES, "clip", WHAT)
    check_sizes(folder, table)
    sizes = [table.get("hidden_size", 512), table.get("max_position_embeddings", 77)]
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(
            f"got the {WHAT} in {folder} without whole numbers of its sizes, expected them: give another model"
        )
    return int(sizes[0]), int(sizes[1])


def load_prompt_encoder(folder: Path, vocabulary: Path) -> PromptEncoder:
    """The encoder in text_encoder/ with the tokenizer in tokenizer/, float32, frozen.

    InputError for files that are missing or damaged, and weights in another format than safetensors.
    """
    read_prompt_config(folder)
    check_weights(folder, WHAT)
    if not any((vocabulary / name).is_file() for name in ("tokenizer.json", "merges.txt")):
        raise InputError(
            f"got no vocabulary in {vocabulary}, expected merges.txt and vocab.json: fetch the whole folder"
        )
    loaded: dict[tuple[str, str], PromptEncoder] = {}
    return load_shared(loaded, "clip", folder, WHAT, partial(_load, folder, vocabulary))


def _load(folder: Path, vocabulary: Path) -> PromptEncoder:
    import transformers

    network = from_pretrained(transformers.CLIPTextModel, folder, WHAT)
    with quiet():
        tokenizer: Any = transformers.CLIPTokenizerFast.from_pretrained(vocabulary, local_files_only=True)
    check_finite(network.state_dict())
    text = tokenizer.backend_tokenizer.to_str()
    pad = tokenizer.pad_token_id or 0
    context = network.config.max_position_embeddings
    if tokenizer.vocab_size > network.config.vocab_size:
        raise InputError(
            f"got a vocabulary of {tokenizer.vocab_size} tokens in {vocabulary}, expected at most "
            f"{network.config.vocab_size}: give files of one model"
        )
    return PromptEncoder(
        network=network,
        tokenizer=FrozenTokenizer(FastTokenizer.from_str(text), context, pad),
        fingerprint=f"{text_fingerprint(network, tokenizer.backend_tokenizer)}-{pad}",
    )
