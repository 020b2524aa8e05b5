"""The dispatch point of the primitives: each function chooses the fastest kernel for its input.

The networks call these functions and know of no kernel. Definitions in PyTorch are in `glide.networks.normalization`
and `glide.networks.attention`; faster kernels for CPUs are in `fused.py` (C) and `prepacked.py` (oneDNN). README.md
beside this file holds what each kernel gains.

Shape letters: N batch, C channels, H W pixels, L tokens, T context tokens, d width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks import attention, normalization
from glide.networks.cpu import fused, prepacked
from glide.networks.normalization import ScaleShift
from glide.utils.dtype import multiplies_fast

WIDE_GROUP = 16  # channels: narrower groups do not fill a vector register
LARGE_PICTURE = 1024  # pixels from which PyTorch's group norm takes another kernel
FEW_KEYS = 3072  # numbers, tokens times width: a head's keys for which the C is no slower than bfloat16 units


def second_derivatives() -> bool:
    """True where the caller wants second derivatives, by `torch.nn.attention.sdpa_kernel(SDPBackend.MATH)`.

    The fused and prepacked kernels have first derivatives alone.
    """
    return torch.is_grad_enabled() and not torch.backends.cuda.flash_sdp_enabled()


def group_norm(layer: nn.GroupNorm, x: Tensor, scale_shift: ScaleShift | None, silu: bool) -> Tensor:
    """`normalization.group_norm` with the layer's parameters: [N,C,H,W] -> [N,C,H,W]."""
    groups, weight, bias, eps = layer.num_groups, layer.weight, layer.bias, layer.eps
    if fused.supports_norm(x) and not second_derivatives():
        return fused.norm(x, groups, weight, bias, eps, scale_shift, silu)
    if _slow_in_channels_last(x, groups):
        y = F.group_norm(x.contiguous(), groups, weight, bias, eps)
        return normalization.modulate(y.contiguous(memory_format=torch.channels_last), scale_shift, silu)
    return normalization.group_norm(x, groups, weight, bias, eps, scale_shift, silu)


def _slow_in_channels_last(x: Tensor, groups: int) -> bool:
    """True where PyTorch's channels_last kernel takes longer than the contiguous one and a copy before and after it.

    Measured on CPUs, in half precision alone: narrow groups take it up to ten times as long. Large pictures have
    another kernel, which is slow in its backward pass only.
    """
    if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
        return False
    narrow = x.shape[1] // groups < WIDE_GROUP
    small = x.shape[-2] * x.shape[-1] < LARGE_PICTURE
    return _is_half(x) and narrow and (small or torch.is_grad_enabled())


def pixel_norm(layer: nn.LayerNorm, x: Tensor, scale_shift: ScaleShift | None, silu: bool) -> Tensor:
    """`normalization.pixel_norm` with the layer's parameters: [N,C,H,W] -> [N,C,H,W]."""
    if fused.supports_norm(x) and not second_derivatives():
        return fused.norm(x, 0, layer.weight, layer.bias, layer.eps, scale_shift, silu)
    return normalization.pixel_norm(x, layer.weight, layer.bias, layer.eps, scale_shift, silu)


def self_attention(
    qkv: Tensor,
    heads: int,
    context_kv: Tensor | None = None,
    *,
    causal: bool = False,
    queries: int | None = None,
) -> Tensor:
    """Attention of each token to all tokens, and to those of a context: softmax(q k^T / sqrt(d)) v.

    qkv [N,L,3C]: queries, keys and values one after the other, each with its heads side by side. context_kv [N,T,2C]:
    further keys and values. causal: token i attends to tokens 0 to i only, without a context. queries: of the first so
    many tokens alone. Returns [N,L,C], or [N,queries,C].
    """
    return _attention(qkv, context_kv, heads, qkv.shape[1] if queries is None else queries, causal)


def cross_attention(q: Tensor, context_kv: Tensor, heads: int) -> Tensor:
    """Attention of the queries q [N,L,C] to a context alone, by its keys and values [N,T,2C] -> [N,L,C]."""
    return _attention(q, context_kv, heads, q.shape[1], causal=False)


def _attention(qkv: Tensor, context_kv: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
    """Arguments as `attention.multi_head_attention`."""
    width = attention.head_width(qkv, context_kv, heads)
    needs_gradient = qkv.requires_grad or (context_kv is not None and context_kv.requires_grad)
    if torch.is_grad_enabled() and needs_gradient:
        if _gradient_in_c(qkv, context_kv, width) and not second_derivatives():
            return fused.attention(qkv, context_kv, heads, queries, causal)
    elif fused.supports_attention(qkv, context_kv, width):
        return fused.attention_forward(qkv, context_kv, heads, queries, causal)
    kernel: attention.Kernel = F.scaled_dot_product_attention
    if qkv.device.type == "cpu" and torch.is_grad_enabled() and (_is_half(qkv) or second_derivatives()):
        # In half precision the backward pass of PyTorch's kernel for CPUs is slower than these three operations.
        kernel = attention.attention
    return attention.multi_head_attention(qkv, context_kv, heads, queries, causal, kernel)


def _gradient_in_c(qkv: Tensor, context_kv: Tensor | None, width: int) -> bool:
    """True where attention has a faster gradient in C.

    It has none for many tokens in bfloat16 on a processor with units for it, which PyTorch's matrix products use.
    """
    if not fused.supports_gradient(qkv, context_kv, width):
        return False
    if qkv.dtype != torch.bfloat16 or not multiplies_fast(qkv.device, torch.bfloat16):
        return True
    tokens = qkv.shape[1] + (0 if context_kv is None else context_kv.shape[1])
    return tokens * width <= FEW_KEYS


def conv_add(conv: nn.Module, x: Tensor, residual: Tensor, overwrite: bool) -> Tensor:
    """residual + conv(x): x [N,C,H,W], residual [N,O,H',W'] -> [N,O,H',W'].

    overwrite: the result may take the memory of `residual`, which nothing else reads.
    """
    if isinstance(conv, prepacked.PackedConv2d):
        return conv.add_to(residual, x, overwrite)
    return residual + conv(x)


def finish_call(network: nn.Module) -> None:
    """Reorder packed weights for a new input shape, after a call of the network that did not use its `__call__`."""
    prepacked.reorder_weights(network)


def _is_half(x: Tensor) -> bool:
    return torch.finfo(x.dtype).bits < 32
