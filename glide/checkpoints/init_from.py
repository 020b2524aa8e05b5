"""Begin a model with the weights of another: a fine-tune, a larger picture, new input planes."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.networks.model import Model
from glide.utils.errors import InputError


@torch.no_grad()
def init_from(model: Model, source: Model) -> list[str]:
    """Copy every weight of `source` that `model` has; returns the names of those that begin anew.

    Where the two differ only in their pixels, the first and last layers are carried over:

    - a larger patch size sees each old pixel as the mean of a block of new ones, and draws it as such a block,
      so that training at 32 goes on at 64 on the same inner grid;
    - new input planes (inpainting, a low-resolution picture, coordinates) begin at zero, so that the model begins as
      it was (GLIDE, 2112.10741, section 2.4);
    - learned variances added to an output begin at zero.

    A model with further levels of a finer grid around those of `source` (each with half the patch size) gets them
    from scratch, with its own stem and head, around the weights of the others.

    Raises InputError when a weight has another size for any other reason.
    """
    old, new = _inside(source, model), model.state_dict()
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


def _inside(source: Model, model: Model) -> dict[str, Tensor]:
    """The weights of `source` by the names that they have in a U-Net with as many outer levels more as `model` has."""
    state = source.state_dict()
    inner, outer = source.config.unet, model.config.unet
    more = len(outer.channel_mult) - len(inner.channel_mult)
    same = (
        more > 0
        and outer.channel_mult[more:] == inner.channel_mult
        and (outer.channels, outer.num_res_blocks) == (inner.channels, inner.num_res_blocks)
        and outer.patch_size * 2**more == inner.patch_size
    )
    if not same:
        return state
    first = more * (
        outer.num_res_blocks + 1
    )  # blocks down, the change of resolution among them, of one level
    named = {}
    for name, value in state.items():
        if (match := re.fullmatch(r"unet\.down\.(\d+)(\..*)", name)) is not None:
            name = f"unet.down.{int(match[1]) + first}{match[2]}"
        if not name.startswith(("unet.stem.", "unet.head.", "unet.norm.")):
            named[name] = value
    return named


def _resize(name: str, value: Tensor, to: Tensor, source: Model, model: Model) -> Tensor:
    ratio, rest = divmod(model.config.unet.patch_size, source.config.unet.patch_size)
    if name == "unet.stem.weight" and not rest and to.shape[0] == value.shape[0]:
        return _fit_stem(value, to, source, model, ratio)
    if name in ("unet.head.weight", "unet.head.bias") and not rest:
        return _fit_channels(_grow_head(value, source.config.unet.patch_size, ratio), to, dim=0)
    raise InputError(
        f"--init: {name} is {list(value.shape)} there and {list(to.shape)} here; the two models must agree in their "
        "widths, levels, text encoder and tokenizer."
    )


def _fit_stem(value: Tensor, to: Tensor, source: Model, model: Model, ratio: int) -> Tensor:
    """The stem's input is pixels and planes, then coordinates; each part is carried over by itself."""
    had, wanted = (4 * m.config.unet.coordinates for m in (source, model))
    if had not in (0, wanted):
        raise InputError(
            f"--init: that model sees {had // 4} octaves of coordinates and this one {wanted // 4}; give both the same."
        )
    pixels, coordinates = value.split([value.shape[1] - had, had], dim=1)
    pixels = _fit_planes(
        _grow_stem(pixels, source.config.unet.patch_size, ratio), to[:, wanted:], source, model
    )
    return torch.cat([pixels, _fit_channels(coordinates, to[:, :wanted], dim=1)], dim=1)


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
    """[O,I,k,k] -> the shape of `to`: each input where the model has what it shows, and zeros for what is new."""
    pixels = model.config.unet.patch_size**2
    old, new = _inputs(source), _inputs(model)
    fitted = torch.zeros_like(to)
    for name, places in old.items():
        missing = len(places) - len(new.get(name, ()))
        if missing:
            words = f"{abs(missing)} input channels {'more' if missing > 0 else 'fewer'}"
            raise InputError(f"--init: that model has {words} than this one ({name}).")
        here, there = (slice(at.start * pixels, at.stop * pixels) for at in (new[name], places))
        fitted[:, here] = weight[:, there]
    return fitted


def _inputs(model: Model) -> dict[str, range]:
    """Contents of the input channels, the planes in the order of `glide.networks.input_planes.KINDS`."""
    widths = {"x_t": model.config.unet.in_channels} | {part.name: part.channels for part in model.parts}
    found, start = {}, 0
    for name, width in widths.items():
        found[name] = range(start, start + width)
        start += width
    return found


def stem_without_mask(model: Model) -> Tensor:
    """The stem's weights [O,I,k,k] without those of the inpainting planes, which add nothing where nothing is known."""
    weight, pixels = model.unet.stem.weight, model.config.unet.patch_size**2
    at = _inputs(model).get("inpainting", range(0))
    return torch.cat([weight[:, : at.start * pixels], weight[:, at.stop * pixels :]], dim=1)


def _fit_channels(value: Tensor, to: Tensor, dim: int) -> Tensor:
    missing = to.shape[dim] - value.shape[dim]
    if missing < 0:
        raise InputError(f"--init: that model has {-missing} input or output channels more than this one.")
    pad = [0, 0] * (value.ndim - 1 - dim) + [0, missing]
    return F.pad(value, pad)
