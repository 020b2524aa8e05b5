"""Export a model as a pipeline of diffusers: its U-Net as a UNet2DModel, its process as a DDPMScheduler.

diffusers holds ADM's U-Net, unconditional or of classes, whose attention has one width of heads, and no text, planes,
patches or latents around it. For all else `obstacle` names the part that stands in the way.

Shape letters: C channels.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from glide.checkpoints.diffusers_autoencoders import diffusers_class
from glide.networks.blocks import Attention, ResBlock
from glide.networks.config import ModelConfig
from glide.networks.diffusers_model import DiffusersModel
from glide.networks.layers import GroupNorm
from glide.networks.model import Model
from glide.networks.unet import UNet
from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.errors import InputError, NameTaken

RES = {
    "norm_in": "norm1",
    "conv_in": "conv1",
    "emb": "time_emb_proj",
    "norm_out": "norm2",
    "conv_out": "conv2",
    "skip": "conv_shortcut",
}
ENDS = {
    "time_in": "time_embedding.linear_1",
    "time_out": "time_embedding.linear_2",
    "stem": "conv_in",
    "norm": "conv_norm_out",
    "head": "conv_out",
}
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
VARIANCES = {"learned": "learned_range", "fixed_small": "fixed_small", "fixed_large": "fixed_large"}
SCHEDULES = {"linear": "linear", "quadratic": "scaled_linear", "squaredcos_cap_v2": "squaredcos_cap_v2"}
"""Schedules that have a name there; the betas of all others are listed."""


def obstacle(config: ModelConfig) -> str | None:
    """The part of a model that no UNet2DModel and no pipeline around it can hold; None where there is none."""
    unet = config.unet
    first = unet.channel_mult[0]
    parts: tuple[tuple[object, str], ...] = (
        (config.reads_captions, "the text encoder, whose tokens are in its attention"),
        (config.first_stage, "the autoencoder of its latents"),
        (config.low_res, "the low-resolution picture that it enlarges"),
        (config.inpaint, "the masked picture that it receives (inpaint)"),
        (config.conditioned_on_pictures, "the pictures that it is conditioned on"),
        (unet.patch_size > 1, f"patches of {unet.patch_size}x{unet.patch_size} pixels (unet.patch_size)"),
        (unet.coordinates, "the coordinates that it receives (unet.coordinates)"),
        (unet.local, "norms of single pixels (unet.local)"),
        (unet.self_condition, "self-conditioning"),
        (unet.blocks != "adm", f"the blocks {unet.blocks}"),
        (unet.linear_attention, "linear attention"),
        (unet.inner_head, "an inner head (unet.inner_head)"),
        (unet.unshuffle, "pixel-unshuffle"),
        (first != 1, f"a first level of {first:g} times the width of the time embedding (unet.channel_mult)"),
        (config.student, "what a student learned of its teacher's steps (student)"),
        (config.sizes, "sizes other than squares (sizes)"),
    )
    return next((words for there, words in parts if there), None)


def check_exportable(model: Model) -> None:
    """InputError, naming the part that stands in the way, for a model that diffusers cannot hold."""
    if isinstance(model, DiffusersModel):
        raise InputError(
            "got a model of diffusers, expected one of this project: it is a pipeline of diffusers already, copy its "
            "folder"
        )
    found = obstacle(model.config) or _uneven(model.unet)
    if found is not None:
        raise InputError(
            f"got a model with {found}, expected a U-Net alone, as diffusers' UNet2DModel has no such part: share it "
            "for this toolkit instead (scripts/share.py)"
        )


def _uneven(unet: UNet) -> str | None:
    """Words for norms or heads of several kinds, of which a UNet2DModel has one each."""
    groups = {layer.num_groups for layer in unet.modules() if isinstance(layer, GroupNorm)}
    if len(groups) > 1:
        return f"norms of {' and '.join(map(str, sorted(groups)))} groups (unet.channels)"
    if _head_width(unet) == 0:
        return "attention heads of several widths (unet.num_heads; unet.head_channels makes them one)"
    return None


def _head_width(unet: UNet) -> int | None:
    """Channels of an attention head; None for one head, whatever its width is; 0 for several widths."""
    layers = [layer for layer in unet.modules() if isinstance(layer, Attention)]
    if all(layer.heads == 1 for layer in layers) and not unet.config.head_channels:
        return None
    widths = {layer.proj.in_features // layer.heads for layer in layers}
    return widths.pop() if len(widths) == 1 else 0


def network_settings(model: Model) -> dict[str, Any]:
    """The arguments of the UNet2DModel with the layers of the model's U-Net."""
    unet, c = model.unet, model.config.unet
    attends = [2**level in c.attention for level in range(len(c.channel_mult))]
    kind = "resnet" if c.resblock_updown else "conv"
    plain = (
        ("ResnetDownsampleBlock2D", "ResnetUpsampleBlock2D")
        if c.resblock_updown
        else ("DownBlock2D", "UpBlock2D")
    )
    (groups,) = {layer.num_groups for layer in unet.modules() if isinstance(layer, GroupNorm)}
    return {
        "sample_size": c.image_size,
        "in_channels": c.in_channels,
        "out_channels": c.out_channels,
        "block_out_channels": tuple(int(mult * c.channels) for mult in c.channel_mult),
        "layers_per_block": c.num_res_blocks,
        "down_block_types": tuple("AttnDownBlock2D" if one else plain[0] for one in attends),
        "up_block_types": tuple("AttnUpBlock2D" if one else plain[1] for one in reversed(attends)),
        "downsample_type": kind,
        "upsample_type": kind,
        "resnet_time_scale_shift": "scale_shift" if c.scale_shift else "default",
        "attention_head_dim": _head_width(unet),
        "norm_num_groups": groups,
        "attn_norm_num_groups": groups,
        "norm_eps": 1e-5,
        "dropout": c.dropout,
        "num_class_embeds": model.label.num_embeddings if model.config.num_classes else None,
    }


def network_state(model: Model) -> dict[str, Tensor]:
    """The weights by the names that they have in a UNet2DModel, shared with the model."""
    unet, state = model.unet, dict[str, Tensor]()
    for ours, theirs in ENDS.items():
        state |= _layer(getattr(unet, ours), theirs)
    if model.config.num_classes:
        state["class_embedding.weight"] = model.label.weight
    for place, block in _blocks(unet):
        state |= _res(block.res, f"{place[0]}.resnets.{place[1]}" if place[1] is not None else place[0])
        if isinstance(block.attn, Attention):
            state |= _attention(block.attn, f"{place[0]}.attentions.{place[1]}")
        if block.up is not None:
            state |= _res(block.up, f"{place[0]}.upsamplers.0")
    return {name: tensor.detach() for name, tensor in state.items()}


def _blocks(unet: UNet) -> Iterator[tuple[tuple[str, int | None], Any]]:
    """Each block with the path of its level there, and its number in it; None for a change of resolution."""
    depth, each = len(unet.config.channel_mult), unet.config.num_res_blocks
    down = iter(unet.down)
    for level in range(depth):
        for i in range(each):
            yield (f"down_blocks.{level}", i), next(down)
        if level + 1 < depth:
            yield (f"down_blocks.{level}.downsamplers.0", None), next(down)
    yield ("mid_block", 0), unet.middle_in
    yield ("mid_block", 1), unet.middle_out
    for i, block in enumerate(unet.up):
        yield (f"up_blocks.{i // (each + 1)}", i % (each + 1)), block


def _res(module: nn.Module, path: str) -> dict[str, Tensor]:
    """A residual block, or a convolution that changes the resolution."""
    if not isinstance(module, ResBlock):
        conv: Any = module
        return _layer(conv.conv, f"{path}.conv")
    found: dict[str, Tensor] = {}
    for ours, theirs in RES.items():
        found |= _layer(getattr(module, ours), f"{path}.{theirs}")
    return found


def _attention(module: Attention, path: str) -> dict[str, Tensor]:
    found = _layer(module.norm, f"{path}.group_norm") | _layer(module.proj, f"{path}.to_out.0")
    for name, tensor in module.qkv.named_parameters():
        for part, piece in zip("qkv", tensor.chunk(3), strict=True):  # [C,C] or [C]
            found[f"{path}.to_{part}.{name}"] = piece
    return found


def _layer(module: nn.Module, path: str) -> dict[str, Tensor]:
    return {f"{path}.{name}": tensor for name, tensor in module.named_parameters()}


def scheduler_settings(model: Model) -> dict[str, Any]:
    """The arguments of the DDPMScheduler with the model's process.

    Its betas are listed where the schedule has no name there: one that is shifted, or a sigmoid.
    """
    config = model.config.process
    betas = config.build().betas
    found: dict[str, Any] = {
        "num_train_timesteps": len(betas),
        "prediction_type": PREDICTIONS[config.prediction],
        "variance_type": VARIANCES[config.variance],
        "clip_sample": model.first_stage.bound is not None,
        "clip_sample_range": model.first_stage.bound or 1.0,
        "timestep_spacing": "trailing",
    }
    named = SCHEDULES.get(config.schedule)
    if named is None or config.shift != 1 or config.zero_terminal_snr:
        return found | {"trained_betas": [float(beta) for beta in betas]}
    if named != "squaredcos_cap_v2":
        found |= {"beta_start": float(betas[0]), "beta_end": float(betas[-1])}
    return found | {"beta_schedule": named}


def export_pipeline(model: Model, folder: Path, overwrite: bool = False) -> None:
    """Write the model as a pipeline of diffusers, by diffusers' own classes; its weights as float32 safetensors.

    InputError for a model that it cannot hold, where diffusers is not installed, and for a folder that is there and is
    not to be replaced, or cannot be written: it is then as it was.
    """
    check_exportable(model)
    check_free(folder, overwrite)
    make = diffusers_class("UNet2DModel")
    network = make(**network_settings(model))
    expected = network.state_dict()
    state = {name: _shaped(tensor, expected[name]) for name, tensor in network_state(model).items()}
    network.load_state_dict(state)
    pipeline = diffusers_class("DDPMPipeline")(
        unet=network.eval(), scheduler=diffusers_class("DDPMScheduler")(**scheduler_settings(model))
    )
    draft = temporary_name(folder)
    try:
        pipeline.save_pretrained(draft, safe_serialization=True)
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(draft, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _shaped(tensor: Tensor, like: Tensor) -> Tensor:
    return tensor.reshape(like.shape).to("cpu", torch.float32).contiguous()


def check_free(folder: Path, overwrite: bool) -> None:
    """NameTaken for a folder with files in it, or a file, which are replaced only where that is asked for."""
    taken = folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken and (not overwrite or folder.is_file() or not _is_exported(folder)):
        raise NameTaken(f"{folder} exists already: give another name" + _or_overwrite(folder))


def _is_exported(folder: Path) -> bool:
    """True for a pipeline of diffusers: no other folder is ever removed."""
    return (folder / "model_index.json").is_file()


def _or_overwrite(folder: Path) -> str:
    return ", or --overwrite" if _is_exported(folder) else ""
