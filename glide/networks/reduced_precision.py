"""Networks in reduced precision, with the sensitive layers in float32.

Autocast would copy every weight in every call, which is a fifth of the time of a large network that draws one picture,
and would keep the float32 weights as well. Here weights are rounded once, and each layer casts its input to the type of
its weights (`glide.networks.layers`, `glide.networks.unet`). Layers to whose errors a sum of many steps is sensitive
stay float32: the time embedding, the coordinates, the last layer. Statistics of norms and softmax are float32 inside
their kernels; samplers always compute in float32, and coefficients in float64.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from glide.networks.diffusers_model import DiffusersUNet

SENSITIVE = frozenset({"time_in", "time_out", "place", "head", "inner_head"})
"""Last parts of the names of a U-Net's layers that keep float32 weights."""
HEAD_NORMS = frozenset({"norm", "inner_norm"})
"""Norms before the last layers, which receive float32."""

M = TypeVar("M", bound=nn.Module)


def lower_(network: M, dtype: torch.dtype) -> M:
    """Round the weights of all convolutions and projections to `dtype`, in place, except those of sensitive layers.

    network: a `glide.networks.unet.Encoder`, or a module that contains one. float32 changes nothing. A network of
    diffusers is rounded as a whole, as diffusers does. Norms keep float32
    weights on a CPU; on a GPU they are rounded, as its kernels need one type (and compute in float32 all the same).
    """
    if dtype == torch.float32:
        return network
    if isinstance(network, DiffusersUNet):
        return network.lower_(dtype)
    for name, module in network.named_modules():
        inner = isinstance(module, nn.Conv2d | nn.Linear) and name.rpartition(".")[2] not in SENSITIVE
        norm = isinstance(module, nn.GroupNorm | nn.LayerNorm)
        if inner or (norm and module.weight.is_cuda and name not in HEAD_NORMS):
            module.to(dtype)
    return network


def lowered(network: M, dtype: torch.dtype) -> M:
    """A copy of the network by `lower_`; for float32 the network itself."""
    return network if dtype == torch.float32 else lower_(copy.deepcopy(network), dtype)
