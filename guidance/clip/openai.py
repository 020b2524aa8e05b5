"""GLIDE's published noised CLIP (2112.10741), converted at the border.

It comes as two files of one pair. Differences from ours end here: q, k and v are three layers there, the keys without
a bias; pictures are pixels from 0 to 255, normalised with CLIP's mean and deviation inside the network.

Shape letters: D width, E embedding width, P patch.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.state_dicts import check_finite, read_state_dict
from glide.networks.config import ProcessConfig, TextConfig
from glide.networks.image_config import ImageConfig
from glide.networks.tokenizer import Tokenizer
from glide.utils.config_check import blank, checked
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote, join
from glide.utils.printable import few
from guidance.clip.config import ClipConfig
from guidance.clip.network import NoisyClip, check_tokenizer

PAIR = ("clip_image_enc.pt", "clip_text_enc.pt")
LOGIT_SCALE = 100.0
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of pixels from 0 to 1: CLIP's, and GLIDE's noised CLIP's
STD = (0.26862954, 0.26130258, 0.27577711)
HEAD_CHANNELS = 64


def is_pair(name: str | os.PathLike[str]) -> bool:
    """True for the name of one of the two published files, or of a folder that holds both."""
    text = os.fspath(name)
    return text.replace("\\", "/").split("/")[-1] in PAIR or all(
        (Path(text) / file).is_file() for file in PAIR
    )


def load(name: str | os.PathLike[str], vocab: str | None = None) -> NoisyClip:
    """The published pair -> our CLIP, float32, in eval mode.

    name: either file (the other one lies beside it), or the folder of both; local, or blobfile's path.
    vocab: folder or hub id of CLIP's vocabulary; without it `clip.tokenizer` is None.
    InputError if a file is missing, damaged, holds other things than tensors, or is not of such a CLIP.
    """
    text = os.fspath(name)
    if text.endswith(".pt"):
        text = text[: -len(PAIR[0])] if text.endswith(PAIR[0]) else text[: -len(PAIR[1])]
    image, words = (
        read_state_dict(join(text, file) if is_remote(text) else str(Path(text) / file)) for file in PAIR
    )
    try:
        clip = from_state_dicts(image, words)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if vocab is not None:
        clip.tokenizer = Tokenizer.clip(vocab, clip.config.text.context)
        check_tokenizer(clip, vocab)
    return clip


def from_state_dicts(
    image: Mapping[str, Any], text: Mapping[str, Any], head_channels: int = HEAD_CHANNELS
) -> NoisyClip:
    """The state dicts of the image and the text encoder -> our CLIP, float32, in eval mode, without a tokenizer.

    Sizes follow from the tensors; head_channels: width of an attention head, which does not.
    InputError, naming the first tensor that is missing, unexpected or misshapen, for those of another model.
    """
    pictures, words = _Tensors(PAIR[0], image), _Tensors(PAIR[1], text)
    config = _config(pictures, words, head_channels)
    clip = blank(lambda: NoisyClip(checked(config, "clip")), "the pair")
    state = dict(_image(pictures, config)) | dict(_text(words, config))
    state["logit_scale"] = torch.tensor(math.log(LOGIT_SCALE))
    pictures.check_all_taken()
    words.check_all_taken()
    check_finite(state)
    clip.load_state_dict(state, strict=True, assign=True)
    return clip.eval()


class _Tensors:
    """A published state dict, each tensor of which is taken exactly once."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.name = name
        self.left = dict(state)

    def shape(self, name: str, dims: int) -> tuple[int, ...]:
        """The shape of a tensor that says how large the network is."""
        tensor = self.left.get(name)
        if not isinstance(tensor, Tensor) or tensor.ndim != dims:
            raise InputError(f"{self.name} lacks the tensor {name} of {dims} dimensions: give GLIDE's CLIP.")
        return tuple(tensor.shape)

    def take(self, name: str, *shape: int) -> Tensor:
        """float32, sharing no memory with the state dict."""
        tensor = self.left.pop(name, None)
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            raise InputError(f"{self.name} lacks the tensor {name} of real numbers: give GLIDE's CLIP.")
        if tuple(tensor.shape) != shape:
            raise InputError(
                f"in {self.name}, {name} is {'x'.join(map(str, tensor.shape))} instead of "
                f"{'x'.join(map(str, shape))}: give both files of one CLIP."
            )
        return tensor.detach().to(torch.float32, copy=True)

    def check_all_taken(self) -> None:
        if self.left:
            names = few([str(name) for name in self.left], 3)
            raise InputError(
                f"{self.name} holds {len(self.left)} unexpected tensors ({names}): give GLIDE's CLIP."
            )


def _config(image: _Tensors, text: _Tensors, head_channels: int) -> ClipConfig:
    width, _, patch, _ = image.shape("blocks.input.patch_proj", 4)
    tokens = image.shape("blocks.input.w_pos", 2)[0]
    vocab, text_width = text.shape("blocks.input.w_voc", 2)
    if width % head_channels or text_width % head_channels:
        raise InputError(
            f"widths {width} and {text_width} are not whole heads of {head_channels}: give head_channels."
        )
    return ClipConfig(
        ImageConfig(math.isqrt(tokens - 1) * patch, patch, width, _layers(image), width // head_channels),
        TextConfig(
            vocab,
            text.shape("blocks.input.w_pos", 2)[0],
            text_width,
            _layers(text),
            text_width // head_channels,
            padding=False,
        ),
        image.shape("blocks.output.f.w", 2)[0],
        ProcessConfig("squaredcos_cap_v2", image.shape("blocks.input.w_t", 2)[0]),
    )


def _layers(tensors: _Tensors) -> int:
    return len({name.split(".")[1] for name in tensors.left if str(name).startswith("blocks.block_")})


def _image(source: _Tensors, config: ClipConfig) -> Iterator[tuple[str, Tensor]]:
    c = config.image
    patches = source.take("blocks.input.patch_proj", c.width, 3, c.patch, c.patch)  # [D,3,P,P]
    # theirs: sum w ((x + 1) / 2 - mean) / std over a patch, which is linear in our x
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    w = patches.double() / std.to(patches.device)
    yield "image.stem.patch.weight", (w / 2).float()
    yield "image.stem.patch.bias", (w * (0.5 - mean).to(w.device)).sum(dim=(1, 2, 3)).float()
    yield "image.times.weight", source.take("blocks.input.w_t", config.process.steps, c.width)
    yield "image.positions", source.take("blocks.input.w_pos", 1 + c.grid**2, c.width)
    yield from _norm(source, "image.norm_in", "blocks.input.ln", c.width)
    yield from _blocks(source, "image", c.layers, c.width)
    yield from _norm(source, "image.norm", "blocks.output.ln", c.width)
    yield "image.head.weight", source.take("blocks.output.f.w", config.embedding, c.width)


def _text(source: _Tensors, config: ClipConfig) -> Iterator[tuple[str, Tensor]]:
    c = config.text
    yield "text.tokens.weight", source.take("blocks.input.w_voc", c.vocab, c.width)
    yield "text.positions", source.take("blocks.input.w_pos", c.context, c.width)
    yield from _blocks(source, "text", c.layers, c.width)
    yield from _norm(source, "text.norm", "blocks.output.ln", c.width)
    yield "text_head.weight", source.take("blocks.output.f.w", config.embedding, c.width)


def _blocks(source: _Tensors, part: str, layers: int, width: int) -> Iterator[tuple[str, Tensor]]:
    for i in range(layers):
        ours, theirs = f"{part}.blocks.{i}", f"blocks.block_{i}"
        attn, mlp = f"{theirs}.f_attn", f"{theirs}.f_mlp"
        yield from _norm(source, f"{ours}.norm_attn", f"{attn}.ln", width)
        yield f"{ours}.qkv.weight", torch.cat([source.take(f"{attn}.f_{x}.w", width, width) for x in "qkv"])
        q, v = (source.take(f"{attn}.f_{x}.b", width) for x in "qv")
        yield (
            f"{ours}.qkv.bias",
            torch.cat([q, torch.zeros_like(v), v]),
        )  # a bias of keys would change nothing
        yield from _linear(source, f"{ours}.proj", f"{attn}.f_c", width, width)
        yield from _norm(source, f"{ours}.norm_mlp", f"{mlp}.ln", width)
        yield from _linear(source, f"{ours}.mlp_in", f"{mlp}.f_1", 4 * width, width)
        yield from _linear(source, f"{ours}.mlp_out", f"{mlp}.f_2", width, 4 * width)


def _norm(source: _Tensors, ours: str, theirs: str, width: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", source.take(f"{theirs}.g", width)
    yield f"{ours}.bias", source.take(f"{theirs}.b", width)


def _linear(source: _Tensors, ours: str, theirs: str, out: int, width: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{ours}.weight", source.take(f"{theirs}.w", out, width)
    yield f"{ours}.bias", source.take(f"{theirs}.b", out)
