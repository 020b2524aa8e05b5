"""Networks in reduced precision: which of their weights are kept in float32.

Autocast would copy every weight at every call, which is a fifth of the time of a large network that draws one picture,
and keeps the float32 weights besides. Here weights are rounded once, and each layer takes its input in the type of its
weights (`glide.networks.layers`, `glide.networks.unet`). What a sum of many steps is sensitive to stays float32: the
time embedding, the places, the last layer; statistics of norms and softmax are float32 inside of their kernels;
samplers compute in float32 and coefficients in float64 always.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

SENSITIVE = frozenset({"time_in", "time_out", "place", "head"})
"""Layers of a U-Net that keep float32 weights, by the last part of their names."""

M = TypeVar("M", bound=nn.Module)


def lower_(network: M, dtype: torch.dtype) -> M:
    """Round the weights of the convolutions and projections to `dtype`, in place, but for the sensitive ones.

    network: a `glide.networks.unet.Encoder`, or what contains one. float32 changes nothing. Norms keep float32
    weights, but on GPUs, whose kernels want one type (and compute in float32 all the same).
    """
    if dtype == torch.float32:
        return network
    for name, module in network.named_modules():
        inner = isinstance(module, nn.Conv2d | nn.Linear) and name.rpartition(".")[2] not in SENSITIVE
        norm = isinstance(module, nn.GroupNorm | nn.LayerNorm)
        if inner or (norm and module.weight.is_cuda and name != "norm"):
            module.to(dtype)
    return network


def lowered(network: M, dtype: torch.dtype) -> M:
    """A copy with `lower_`; for float32 the network itself."""
    return network if dtype == torch.float32 else lower_(copy.deepcopy(network), dtype)
