"""Convert the published OpenAI checkpoints (ADM 2105.05233, GLIDE 2112.10741) to a `Model`.

Their files use three attention layouts, 1x1 convolutions for linear layers, and half precision. This is all converted
here: names are mapped once, and rows of q, k and v are reordered to ours.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glide.checkpoints.openai.options import Options, complete, model_config
from glide.checkpoints.openai.releases import OTHER_KINDS, PUBLISHED, options_for
from glide.checkpoints.state_dicts import check_finite, read_state_dict
from glide.networks.blocks import Attention, Downsample, ResBlock, UNetBlock, Upsample
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.networks.text_encoder import TextEncoder
from glide.networks.tokenizer import Tokenizer
from glide.networks.transformer import TransformerBlock
from glide.networks.unet import Encoder, UNet
from glide.utils.errors import InputError, warn
from glide.utils.filesystem import is_remote
from glide.utils.printable import few

BLOCK_LAYERS: dict[type[nn.Module], dict[str, str]] = {
    ResBlock: {
        "norm_in": "in_layers.0",
        "conv_in": "in_layers.2",
        "emb": "emb_layers.1",
        "norm_out": "out_layers.0",
        "conv_out": "out_layers.3",
        "skip": "skip_connection",
    },
    Attention: {"norm": "norm", "qkv": "qkv", "token_kv": "encoder_kv", "proj": "proj_out"},
    Downsample: {"conv": "op"},
    Upsample: {"conv": "conv"},
    TransformerBlock: {
        "norm_attn": "ln_1",
        "qkv": "attn.c_qkv",
        "proj": "attn.c_proj",
        "norm_mlp": "ln_2",
        "mlp_in": "mlp.c_fc",
        "mlp_out": "mlp.c_proj",
    },
}
"""The layers of each of our blocks: our names, and the originals'."""

PARAMETERS = {"text.positions": "positional_embedding", "text.padding": "padding_embedding"}
"""Parameters outside of any layer."""
LABELS = "label_emb.weight"
"""The tensor whose height is the number of classes."""


@dataclass(frozen=True)
class Source:
    """The published tensor that fills one of our parameters."""

    name: str
    shape: tuple[int, ...]
    """Its shape in the published file, where a linear layer may be a 1x1 convolution with a trailing 1."""
    heads: int = 0
    """Above 0: the number of heads; rows are ordered (head, q|k|v, d) there, and (q|k|v, head, d) here."""
    parts: int = 3
    """3 for q, k, v; 2 for k, v."""

    def convert(self, tensor: Tensor, shape: torch.Size) -> Tensor:
        """Convert a tensor of the published file to float32 of our parameter's shape, in new memory."""
        tensor = tensor.detach().to(torch.float32, copy=True)
        if self.heads:
            tensor = tensor.unflatten(0, (self.heads, self.parts, -1)).transpose(0, 1)
        return tensor.reshape(shape).contiguous()


def mapping(options: Options) -> dict[str, Source]:
    """The source of each parameter of the model with these options, without allocating weights.

    options: see `glide.checkpoints.openai.options`, which raises InputError for options that make no model.
    """
    return _sources(_blank_model(options), options)


def from_state_dict(state: Mapping[str, Tensor], options: Options) -> Model:
    """Convert a published state dict to our model: float32, in eval mode, in new memory.

    state: tensors by the original's names, in any floating-point type.
    options: in the original's names, in either form (`glide.checkpoints.openai.options`).
    Raises InputError, naming the first differences, if the state is not that of the options' model.
    """
    model = _blank_model(options)
    fill(model, state, _sources(model, options))
    return model.eval()


def fill(module: nn.Module, state: Mapping[str, Tensor], sources: Mapping[str, Source]) -> None:
    """Load the weights of a published state dict, as float32, into a module, which may be on the meta device.

    sources: the source of each of its parameters. InputError, naming the first differences, if the names or shapes of
    `state` differ.
    """
    _check_fit(state, sources)
    ours = dict(module.named_parameters())
    converted = {
        name: source.convert(state[source.name], ours[name].shape) for name, source in sources.items()
    }
    check_finite(converted)
    module.load_state_dict(converted, strict=True, assign=True)


def load(
    path: str | os.PathLike[str],
    options: Options | None = None,
    vocab: str | Callable[[], str] | None = None,
) -> Model:
    """Load a published checkpoint file as our model, see `from_state_dict`.

    path: local, or one that blobfile reads (gs://, az://, https:// of Azure). options: by default those of the
    published file of this name, or, for a local file of another name, of the published model with the same tensors.
    vocab: folder or hub id of GLIDE's vocabulary, for captions, or a function that returns it, which is called for a
    model that reads captions; without it `model.tokenizer` is None. Raises InputError if there are no options, the
    file is damaged, holds code (which is never executed) or anything else than tensors, or does not fit the options.
    """
    path = os.fspath(path)
    if is_remote(path):  # mistakes are reported before a long download
        config = model_config(options_for(path) if options is None else options)
        tokenizer = _tokenizer(path, config, vocab)
        state = read_state_dict(path)
        options = options_for(path) if options is None else options
    else:
        if options is None and OTHER_KINDS.fullmatch(re.split(r"[/\\]", path)[-1]):
            options_for(path)  # raises the error that names its kind
        state = read_state_dict(path)
        options = options_of(path, state) if options is None else options
        tokenizer = _tokenizer(path, model_config(options), vocab)
    try:
        model = from_state_dict(state, options)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    model.tokenizer = tokenizer
    return model


def options_of(path: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a file: those of the published model with the same tensors, of a fine-tune for other classes too,
    else by its name.

    InputError if neither identifies them. Warns of a name that contradicts the tensors.
    """
    own = re.split(r"[/\\]", path)[-1]
    # the one of this name first: some models have the same tensors
    names = sorted(PUBLISHED, key=lambda name: name != own)
    width = {name: PUBLISHED[name]["num_channels"] for name in names}
    found = identify(state, width, lambda name: mapping(PUBLISHED[name]))
    if found is not None:
        if own != found:
            warn(f"{path} has the tensors of {found}, so it is read with the options of that", stacklevel=3)
        return dict(PUBLISHED[found])
    found = identify(state, width, lambda name: mapping(PUBLISHED[name]), but=(LABELS,))
    if found is None:
        return options_for(path)
    classes = len(state[LABELS]) if LABELS in state else 0
    warn(
        f"{path} has the tensors of {found} with {classes or 'no'} classes, so it is read with the options of that",
        stacklevel=3,
    )
    return PUBLISHED[found] | {"class_cond": classes > 0, "num_classes": classes or 1}


def identify(
    state: Mapping[str, Any],
    widths: Mapping[str, int],
    sources: Callable[[str], Mapping[str, Source]],
    but: Container[str] = (),
) -> str | None:
    """The first published file whose tensors have the names and shapes of `state`, or None.

    widths: channels of each file's model. sources: the sources of its parameters. but: tensors that are not compared.
    """
    shapes = {name: tuple(value.shape) for name, value in state.items() if isinstance(value, Tensor)}
    shapes = {name: shape for name, shape in shapes.items() if name not in but}
    for name, width in widths.items():
        if shapes.get("time_embed.0.weight") != (4 * width, width):
            continue  # one tensor is enough to rule out most
        if {one.name: one.shape for one in sources(name).values() if one.name not in but} == shapes:
            return name
    return None


def _tokenizer(path: str, config: ModelConfig, vocab: str | Callable[[], str] | None) -> Tokenizer | None:
    if vocab is None or (config.text is None and not isinstance(vocab, str)):
        return None
    if config.text is None:
        raise InputError(f"a vocabulary was given ({vocab}), but {path} takes no captions; leave it out.")
    vocab = vocab if isinstance(vocab, str) else vocab()
    tokenizer = Tokenizer.glide(vocab, config.text.context)
    if tokenizer.n_vocab > config.text.vocab:
        raise InputError(
            f"the vocabulary in {vocab} has {tokenizer.n_vocab} tokens, the model {config.text.vocab}; "
            "give the vocabulary the model was trained with."
        )
    return tokenizer


def _blank_model(options: Options) -> Model:
    config = model_config(options)
    with torch.device("meta"):
        return Model(config)


def _sources(model: Model, options: Options) -> dict[str, Source]:
    return sources_of(model, _layer_names(model), not complete(options).get("use_new_attention_order", False))


def sources_of(module: nn.Module, layers: Iterable[tuple[str, str]], legacy: bool) -> dict[str, Source]:
    """The source of each parameter of these layers.

    layers: our path of a layer, or of a block in BLOCK_LAYERS, and the original's. legacy: the U-Net's attention has
    the older one of the original's two layouts.
    """
    names = dict(_expand_blocks(module, layers))
    sources = {}
    for name, parameter in module.named_parameters():
        layer, _, kind = name.rpartition(".")  # unet.up.0.attn.qkv, weight
        if name not in PARAMETERS and layer not in names:
            continue
        theirs = PARAMETERS[name] if name in PARAMETERS else f"{names[layer]}.{kind}"
        shape = tuple(parameter.shape)
        owner, _, part = layer.rpartition(".")
        parent = module.get_submodule(owner)
        heads, parts = 0, {"qkv": 3, "token_kv": 2}.get(part, 0)
        if isinstance(parent, TransformerBlock) and parts:
            heads = parent.heads
        if isinstance(parent, Attention) and part != "norm":
            heads = parent.heads if parts and legacy else 0
            shape = (*shape, 1) if kind == "weight" else shape
        sources[name] = Source(theirs, shape, heads, parts)
    return sources


def _layer_names(model: Model) -> Iterator[tuple[str, str]]:
    """The path of each layer or block in our model, and in the originals."""
    pairs = list(encoder_layers("unet", model.unet)) + list(_decoder_layers(model.unet))
    if isinstance(model.text, TextEncoder):
        pairs += [
            ("text.tokens", "token_embedding"),
            ("text.norm", "final_ln"),
            ("text_vector", "transformer_proj"),
        ]
        pairs += [(f"text.blocks.{i}", f"transformer.resblocks.{i}") for i in range(len(model.text.blocks))]
    if model.config.num_classes:
        pairs.append(("label", "label_emb"))
    yield from pairs


def _expand_blocks(module: nn.Module, layers: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """The layers, with each block expanded to its layers."""
    for ours, theirs in layers:
        inside = BLOCK_LAYERS.get(type(module.get_submodule(ours)))
        if inside is None:
            yield ours, theirs
        else:
            yield from ((f"{ours}.{a}", f"{theirs}.{b}") for a, b in inside.items())


def encoder_layers(prefix: str, encoder: Encoder) -> Iterator[tuple[str, str]]:
    """Our and the original's path of each block of the encoder, which the noisy classifiers share."""
    yield f"{prefix}.time_in", "time_embed.0"
    yield f"{prefix}.time_out", "time_embed.2"
    yield f"{prefix}.stem", "input_blocks.0.0"
    for i, block in enumerate(encoder.down):
        yield from _block_layers(f"{prefix}.down.{i}", block, f"input_blocks.{i + 1}")
    yield f"{prefix}.middle_in.res", "middle_block.0"
    yield f"{prefix}.middle_in.attn", "middle_block.1"
    yield f"{prefix}.middle_out.res", "middle_block.2"


def _decoder_layers(unet: UNet) -> Iterator[tuple[str, str]]:
    for i, block in enumerate(unet.up):
        yield from _block_layers(f"unet.up.{i}", block, f"output_blocks.{i}")
    yield "unet.norm", "out.0"
    yield "unet.head", "out.2"


def _block_layers(ours: str, block: nn.Module, theirs: str) -> Iterator[tuple[str, str]]:
    """Our and the original's path of a block's parts; the originals number the present ones."""
    assert isinstance(block, UNetBlock)
    there = [part for part in ("res", "attn", "up") if getattr(block, part) is not None]
    yield from ((f"{ours}.{part}", f"{theirs}.{i}") for i, part in enumerate(there))


def _check_fit(state: Mapping[str, Any], sources: Mapping[str, Source]) -> None:
    """InputError that names the first tensors that are missing, unexpected, no tensors or misshapen."""
    expected = {source.name: source.shape for source in sources.values()}
    assert len(expected) == len(sources)
    other = [name for name in expected if name in state and not _is_float_tensor(state[name])]
    wrong = [
        f"{name} ({'x'.join(map(str, state[name].shape))} instead of {'x'.join(map(str, shape))})"
        for name, shape in expected.items()
        if name in state and name not in other and tuple(state[name].shape) != shape
    ]
    differences = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [str(name) for name in state if name not in expected],
        "not a tensor of real numbers": other,
        "wrong shape": wrong,
    }
    found = [f"{what}: {few(names, 3)}" for what, names in differences.items() if names]
    if found:
        raise InputError(
            f"the state dict is not that of the model its options describe ({'; '.join(found)}): "
            "give the options it was trained with, or the right file."
        )


def _is_float_tensor(value: Any) -> bool:
    plain = isinstance(value, Tensor) and value.layout == torch.strided and not value.is_quantized
    return plain and value.is_floating_point()
