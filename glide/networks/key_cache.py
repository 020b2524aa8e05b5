"""Keys and values of the caption's tokens for all attention layers of a U-Net, computed once for all sampling steps.

They are kept in `Conditioning.keys` [N,L,K], the layers' parts one after the other in the order of the blocks.

Shape letters: N batch, L tokens, D token width, C channels of a layer, K the sum of 2C over all layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.blocks import UNetBlock


def assign_slices(unet: nn.Module) -> None:
    """Set every block's `kv_slice`, once all blocks are there."""
    start = 0
    for block in _blocks(unet):
        if block.token_kv is not None:
            stop = start + block.token_kv.out_features
            block.kv_slice = slice(start, stop)
            start = stop


@torch.no_grad()
def with_keys(unet: nn.Module, cond: Conditioning) -> Conditioning:
    """The conditioning with the keys and values of its tokens for every layer; unchanged if no layer attends to tokens.

    unet: with `kv_slice` of its blocks set. cond.tokens [N,L,D].
    """
    keys = [kv for block in _blocks(unet) if (kv := block.project_tokens(cond.tokens)) is not None]
    return replace(cond, keys=torch.cat(keys, dim=-1)) if keys else cond


def cached_kv(block: nn.Module, cond: Conditioning) -> Tensor | None:
    """The block's keys and values [N,L,2C]; None if they are not in `cond`, or the block needs none."""
    if cond.keys is None or not isinstance(block, UNetBlock) or block.kv_slice is None:
        return None
    return cond.keys[..., block.kv_slice]


def _blocks(unet: nn.Module) -> Iterator[UNetBlock]:
    return (module for module in unet.modules() if isinstance(module, UNetBlock))
