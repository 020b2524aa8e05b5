"""Initialise a model from the weights of another: for fine-tuning, larger pictures or new input planes."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.networks.diffusers_model import DiffusersModel
from glide.networks.model import Model
from glide.utils.errors import InputError


@torch.no_grad()
def init_from(model: Model, source: Model) -> list[str]:
    """Copy every weight of `source` that `model` has; returns the names of those that start from scratch.

    If the two differ only in their pixels, the first and last layers are adapted:

    - a larger patch size reads each old pixel as the mean of a block of new ones, and draws it as such a block,
      so that training at 32 continues at 64 on the same inner grid;
    - weights of new input planes (inpainting, a low-resolution picture, coordinates) are zero, so that the model first
      computes what it did before (GLIDE, 2112.10741, section 2.4);
    - weights of learned variances added to an output are zero;
    - the planes of a model that inpaints are left out in one that does not, which computes what `source` does where
      no pixel is known.

    A model may have further levels of a finer grid around those of `source` (each with half the patch size): these,
    with their own stem and head, start from scratch.

    An inner head of another level than that of `source` starts from scratch.

    A text encoder with fewer layers gets some of `source`'s, evenly spaced, the first and the last among them (as
    DistilBERT, 1910.01108, section 3).

    Raises InputError when a weight has another size for any other reason.
    """
    if isinstance(source, DiffusersModel):
        raise InputError(
            "got a model of diffusers to begin with, expected one of this project: leave --init out"
        )
    old, new = _inner_weights(source, model), model.state_dict()
    fresh = []
    for name, to in new.items():
        if name not in old:
            fresh.append(name)
            continue
        value = old[name]
        if value.shape != to.shape:
            value = _resize(name, value, to, source, model)
        to.copy_(value)
    return fresh


def _inner_weights(source: Model, model: Model) -> dict[str, Tensor]:
    """The weights of `source` by their names in a U-Net with the additional outer levels of `model`."""
    state = _fewer_text_layers(source, model)
    inner, outer = source.config.unet, model.config.unet
    more = len(outer.channel_mult) - len(inner.channel_mult)
    if inner.inner_head * 2**more != outer.inner_head:
        state = {name: value for name, value in state.items() if not name.startswith("unet.inner_")}
    same = (
        more > 0
        and outer.channel_mult[more:] == inner.channel_mult
        and (outer.channels, outer.num_res_blocks) == (inner.channels, inner.num_res_blocks)
        and outer.patch_size * 2**more == inner.patch_size
    )
    if not same:
        return state
    first = more * (outer.num_res_blocks + 1)  # blocks of the new levels, including their downsampling
    named = {}
    for name, value in state.items():
        if (match := re.fullmatch(r"unet\.down\.(\d+)(\..*)", name)) is not None:
            name = f"unet.down.{int(match[1]) + first}{match[2]}"
        if not name.startswith(("unet.stem.", "unet.head.", "unet.norm.")):
            named[name] = value
    return named


def _fewer_text_layers(source: Model, model: Model) -> dict[str, Tensor]:
    """The weights of `source`, with as many text layers as `model` has where that has fewer."""
    state = source.state_dict()
    theirs, ours = source.config.text, model.config.text
    if theirs is None or ours is None or not 0 < ours.layers < theirs.layers:
        return state
    last = max(ours.layers - 1, 1)
    kept = {round(i * (theirs.layers - 1) / last): i for i in range(ours.layers)}
    named = {}
    for name, value in state.items():
        match = re.fullmatch(r"text\.blocks\.(\d+)(\..*)", name)
        if match is None:
            named[name] = value
        elif int(match[1]) in kept:
            named[f"text.blocks.{kept[int(match[1])]}{match[2]}"] = value
    return named


def _resize(name: str, value: Tensor, to: Tensor, source: Model, model: Model) -> Tensor:
    ratio, rest = divmod(model.config.unet.patch_size, source.config.unet.patch_size)
    if name == "unet.stem.weight" and not rest and to.shape[0] == value.shape[0]:
        return _fit_stem(value, to, source, model, ratio)
    if name in ("unet.inner_head.weight", "unet.inner_head.bias") and not rest:
        return _grow_head(value, source.unet.inner_patch, ratio)
    if name in ("unet.head.weight", "unet.head.bias") and not rest:
        return _fit_channels(_grow_head(value, source.config.unet.patch_size, ratio), to, dim=0)
    raise InputError(
        f"--init: {name} is {list(value.shape)} there and {list(to.shape)} here; the two models must agree in their "
        "widths, levels, text encoder and tokenizer."
    )


def _fit_stem(value: Tensor, to: Tensor, source: Model, model: Model, ratio: int) -> Tensor:
    """The stem's weights [O,I,k,k] in the shape of `to`: pixels and planes, then coordinates, each part separately."""
    old, new = (4 * m.config.unet.coordinates for m in (source, model))
    if old not in (0, new):
        raise InputError(
            f"--init: that model sees {old // 4} octaves of coordinates and this one {new // 4}; give both the same."
        )
    pixels, coordinates = value.split([value.shape[1] - old, old], dim=1)
    pixels = _fit_planes(_grow_stem(pixels, source.config.unet.patch_size, ratio), to[:, new:], source, model)
    return torch.cat([pixels, _fit_channels(coordinates, to[:, :new], dim=1)], dim=1)


def _grow_stem(weight: Tensor, patch: int, ratio: int) -> Tensor:
    """[O, C*p*p, k, k] -> [O, C*(rp)*(rp), k, k]: the mean over r x r blocks, then the old weights."""
    blocks = weight.unflatten(1, (-1, patch, patch))  # [O,C,p,p,k,k]
    blocks = blocks.repeat_interleave(ratio, 2).repeat_interleave(ratio, 3) / ratio**2
    return blocks.flatten(1, 3)


def _grow_head(weight: Tensor, patch: int, ratio: int) -> Tensor:
    """[C*p*p, ...] -> [C*(rp)*(rp), ...]: each old pixel drawn as an r x r block."""
    blocks = weight.unflatten(0, (-1, patch, patch))  # [C,p,p,...]
    return blocks.repeat_interleave(ratio, 1).repeat_interleave(ratio, 2).flatten(0, 2)


def _fit_planes(weight: Tensor, to: Tensor, source: Model, model: Model) -> Tensor:
    """[O,I,k,k] -> the shape of `to`: old inputs at their new places, and zeros for new inputs."""
    pixels = model.config.unet.patch_size**2
    old, new = _inputs(source), _inputs(model)
    fitted = torch.zeros_like(to)
    for name, places in old.items():
        if name == "inpainting" and name not in new:
            continue
        missing = len(places) - len(new.get(name, ()))
        if missing:
            words = f"{abs(missing)} input channels {'more' if missing > 0 else 'fewer'}"
            raise InputError(f"--init: that model has {words} than this one ({name}).")
        here, there = (slice(at.start * pixels, at.stop * pixels) for at in (new[name], places))
        fitted[:, here] = weight[:, there]
    return fitted


def _inputs(model: Model) -> dict[str, range]:
    """Contents of the input channels, the planes in the order of `glide.networks.input_planes.KINDS`."""
    widths = {"x_t": model.config.unet.in_channels} | {part.label: part.channels for part in model.parts}
    found, start = {}, 0
    for name, width in widths.items():
        found[name] = range(start, start + width)
        start += width
    return found


def stem_without_mask(model: Model) -> Tensor:
    """The stem's weights [O,I,k,k] without those of the inpainting planes, which are zero where no pixel is known."""
    weight, pixels = model.unet.stem.weight, model.config.unet.patch_size**2
    at = _inputs(model).get("inpainting", range(0))
    return torch.cat([weight[:, : at.start * pixels], weight[:, at.stop * pixels :]], dim=1)


def _fit_channels(value: Tensor, to: Tensor, dim: int) -> Tensor:
    missing = to.shape[dim] - value.shape[dim]
    if missing < 0:
        raise InputError(f"--init: that model has {-missing} input or output channels more than this one.")
    pad = [0, 0] * (value.ndim - 1 - dim) + [0, missing]
    return F.pad(value, pad)
