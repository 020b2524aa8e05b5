"""Attention between the tokens of a sequence, or to others that it is told, by the fastest operations there are.

Shape letters: N batch, L tokens, T told tokens, C width of all heads together, d of one.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from glide.networks.cpu import fused as fused


def self_attention(
    qkv: Tensor, heads: int, told: Tensor | None = None, *, causal: bool = False, queries: int | None = None
) -> Tensor:
    """What each token finds among all of them, and those that are told besides: softmax(q k^T / sqrt(d)) v.

    qkv [N,L,3C]: queries, keys and values one after the other, each with its heads side by side. told [N,T,2C]: further
    keys and values. causal: token i sees tokens 0 to i only, and none is told. queries: of the first so many tokens
    alone. Returns [N,L,C], or [N,queries,C].
    """
    return _attention(qkv, told, heads, qkv.shape[1] if queries is None else queries, causal)


def cross_attention(q: Tensor, told: Tensor, heads: int) -> Tensor:
    """What each query [N,L,C] finds among the keys and values told [N,T,2C] -> [N,L,C]."""
    return _attention(q, told, heads, q.shape[1], causal=False)


def _attention(qkv: Tensor, told: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
    """qkv as in `self_attention`, or queries alone as in `cross_attention`."""
    graph = torch.is_grad_enabled() and (qkv.requires_grad or (told is not None and told.requires_grad))
    width = (qkv if told is None else told).shape[2] // heads // (3 if told is None else 2)
    if graph and fused.attends(qkv, told, width) and not fused.plain_wanted():
        return _Attending.apply(qkv, told, heads, queries, causal)
    return _found(qkv, told, heads, queries, causal)


def _found(qkv: Tensor, told: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
    if told is None:
        q, k, v = qkv.chunk(3, dim=-1)  # [N,L,C] each
    else:
        k, v = told.chunk(2, dim=-1)  # [N,T,C] each
        q = qkv
        if qkv.shape[2] != k.shape[2]:
            q, own_k, own_v = qkv.chunk(3, dim=-1)
            k, v = torch.cat([k, own_k], dim=1), torch.cat([v, own_v], dim=1)  # [N,T+L,C]
    q, k, v = (_split_heads(x, heads) for x in (q[:, :queries], k, v))
    return _attend(q, k, v, causal).transpose(1, 2).flatten(2)  # [N,heads,L,d] -> [N,L,C]


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[N,L,heads*d] -> [N,heads,L,d], a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _attend(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """q [N,heads,L,d] and k, v [N,heads,M,d] -> [N,heads,L,d]."""
    half = torch.finfo(q.dtype).bits < 32
    if q.device.type == "cpu" and torch.is_grad_enabled() and (half or fused.plain_wanted()):
        # On the CPU the backward of PyTorch's fused kernel is slower in half precision than three plain operations.
        scores = (q * q.shape[-1] ** -0.5) @ k.mT
        if causal:
            later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, float("-inf"))
        return torch.softmax(scores, dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v, is_causal=causal)


class _Attending(torch.autograd.Function):
    """PyTorch's fused kernel forwards, ours backwards; nothing but what it is given is kept."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, told: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
        ctx.save_for_backward(qkv, told)
        ctx.heads, ctx.causal = heads, causal
        return _found(qkv, told, heads, queries, causal)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        qkv, told = ctx.saved_tensors
        dqkv, dtold = fused.attention_gradient(g.to(qkv.dtype), qkv, told, ctx.heads, ctx.causal)
        return dqkv, dtold, None, None, None
