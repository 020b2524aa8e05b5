"""Multi-head attention among the tokens of a sequence and to the tokens of a context.

`glide.networks.cpu.dispatch` chooses the kernel that computes it.

Shape letters: N batch, L tokens, T context tokens, M = L + T, C width of all heads together, d of one head.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Kernel = Callable[..., Tensor]
"""(q [N,heads,L,d], k [N,heads,M,d], v [N,heads,M,d], is_causal=bool) -> softmax(q k^T / sqrt(d)) v [N,heads,L,d]."""


def attention(q: Tensor, k: Tensor, v: Tensor, is_causal: bool = False) -> Tensor:
    """softmax(q k^T / sqrt(d)) v by its definition (1706.03762), differentiable any number of times.

    q [N,heads,L,d], k and v [N,heads,M,d] -> [N,heads,L,d]. is_causal: token i attends to tokens 0 to i only.
    """
    scores = (q * q.shape[-1] ** -0.5) @ k.mT  # [N,heads,L,M]
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).triu(1)  # [L,M]
        scores = scores.masked_fill(later, float("-inf"))
    return torch.softmax(scores, dim=-1) @ v


def multi_head_attention(
    qkv: Tensor,
    context_kv: Tensor | None,
    heads: int,
    queries: int,
    causal: bool = False,
    kernel: Kernel = F.scaled_dot_product_attention,
) -> Tensor:
    """`attention` in every head: of the first `queries` tokens, to the context's tokens and their own -> [N,queries,C].

    qkv [N,L,3C]: queries, keys and values one after the other, each with its heads side by side. context_kv [N,T,2C]:
    further keys and values, which come first; with them qkv may be the queries alone [N,L,C]. causal: token i attends
    to tokens 0 to i only, without a context.
    """
    if context_kv is None:
        q, k, v = qkv.chunk(3, dim=-1)  # [N,L,C] each
    else:
        k, v = context_kv.chunk(2, dim=-1)  # [N,T,C] each
        q = qkv  # [N,L,C]
        if qkv.shape[2] != k.shape[2]:
            q, own_k, own_v = qkv.chunk(3, dim=-1)  # [N,L,C] each
            k, v = torch.cat([k, own_k], dim=1), torch.cat([v, own_v], dim=1)  # [N,T+L,C]
    q, k, v = (split_heads(x, heads) for x in (q[:, :queries], k, v))  # [N,heads,.,d]
    return kernel(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)  # [N,heads,L,d] -> [N,L,C]


def head_width(qkv: Tensor, context_kv: Tensor | None, heads: int) -> int:
    """d of the inputs of `multi_head_attention`."""
    return (qkv.shape[2] // 3 if context_kv is None else context_kv.shape[2] // 2) // heads


def split_heads(x: Tensor, heads: int) -> Tensor:
    """[N,L,heads*d] -> [N,heads,L,d], a view."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)
