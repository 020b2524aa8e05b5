"""The text encoder of a pipeline of diffusers with its tokenizer, as the pipeline uses them: a CLIP, or an LDMBert."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer
from torch import Tensor, nn

from glide.checkpoints.diffusers_autoencoders import diffusers_class
from glide.checkpoints.state_dicts import check_finite
from glide.checkpoints.text_encoders import text_fingerprint
from glide.checkpoints.transformers_files import (
    CONFIG,
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
from glide.utils.numbers import Range

WHAT = "text encoder"
ENCODER_FILES = ("model.safetensors",)
TOKENIZER_FILES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


FOLDERS = {"text_encoder": "clip", "bert": "ldmbert"}
"""The kind of encoder by its folder in a pipeline."""
MOST_TOKENS = 77
"""Of a caption for an LDMBert, which its pipeline pads to."""
LDM_SIZES = dict.fromkeys(("encoder_ffn_dim", "d_model"), Range(1, 65536))
LDM_SIZES |= dict.fromkeys(("encoder_layers", "encoder_attention_heads", "head_dim"), Range(1, 1000))


def read_prompt_config(folder: Path) -> tuple[int, int]:
    """Width of the tokens and their number in a caption. InputError for another encoder than the folder's name says."""
    kind = FOLDERS[folder.name]
    types = {**MODEL_TYPES, "ldmbert": "ldmbert"}
    table = check_model_type(folder, types, kind, WHAT)
    check_sizes(folder, table)
    width = ("hidden_size", 512) if kind == "clip" else ("d_model", 1280)
    for name, allowed in LDM_SIZES.items():
        if kind == "ldmbert" and table.get(name) is not None:
            allowed.whole(table[name], f"{name} in {folder / CONFIG}")
    sizes = [table.get(*width), table.get("max_position_embeddings", MOST_TOKENS)]
    if not all(isinstance(size, int) for size in sizes):
        raise InputError(
            f"got the {WHAT} in {folder} without whole numbers of its sizes, expected them: give another model"
        )
    return int(sizes[0]), min(int(sizes[1]), MOST_TOKENS) if kind == "ldmbert" else int(sizes[1])


def load_prompt_encoder(folder: Path, vocabulary: Path) -> PromptEncoder:
    """The encoder in text_encoder/ or bert/ with the tokenizer in tokenizer/, float32, frozen.

    InputError for files that are missing or damaged, and weights in another format than safetensors.
    """
    _, context = read_prompt_config(folder)
    check_weights(folder, WHAT)
    words = "merges.txt and vocab.json" if FOLDERS[folder.name] == "clip" else "vocab.txt"
    if not any((vocabulary / name).is_file() for name in ("tokenizer.json", words.split()[0])):
        raise InputError(f"got no vocabulary in {vocabulary}, expected {words}: fetch the whole folder")
    loaded: dict[tuple[str, str], PromptEncoder] = {}
    return load_shared(loaded, "prompts", folder, WHAT, partial(_load, folder, vocabulary, context))


def _load(folder: Path, vocabulary: Path, context: int) -> PromptEncoder:
    import transformers

    if FOLDERS[folder.name] == "clip":
        network = from_pretrained(transformers.CLIPTextModel, folder, WHAT)
        words = transformers.CLIPTokenizerFast
    else:
        network = _LastLayer(from_pretrained(_ldm_bert(), folder, WHAT))
        words = transformers.BertTokenizerFast
    with quiet():
        tokenizer: Any = words.from_pretrained(vocabulary, local_files_only=True)
    check_finite(network.state_dict())
    text = tokenizer.backend_tokenizer.to_str()
    pad = tokenizer.pad_token_id or 0
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


def _ldm_bert() -> Any:
    """diffusers' class of the encoder of latent diffusion (2112.10752), which is not among its public names."""
    diffusers_class("LDMTextToImagePipeline")
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel

    return LDMBertModel


class _LastLayer(nn.Module):
    """An LDMBert without its projection to words, asked for its last layer by name: transformers' defaults change."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.encoder, self.config = network.model, network.config

    def forward(self, input_ids: Tensor) -> Any:
        return self.encoder(input_ids, return_dict=True, output_attentions=False, output_hidden_states=False)
