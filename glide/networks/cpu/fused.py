"""Fused CPU kernels in C: norm + scale-shift + SiLU, and attention, forward and backward.

Norms and what follows them stand around the convolutions of a U-Net, and each operation reads and writes all
activations: on a CPU a fifth to a third of a step. Fused (`fused_group_norm.c`, `fused_pixel_norm.c`), they take half
of that or less, and nothing but the input has to be kept for the backward pass. Attention holds the scores of a few
queries in the cache (`fused_attention_forward.c`), and so does its gradient between few tokens (`fused_attention.c`).
The C is compiled when the package is installed, if there is a compiler; `glide.networks.cpu.dispatch` uses PyTorch's
operations otherwise. README.md beside this file holds figures.

Shape letters: N batch, C channels, H W pixels, G groups, L tokens, T context tokens, Q queries.
"""

from __future__ import annotations

import ctypes
import sysconfig
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glide.networks.attention import head_width, multi_head_attention
from glide.networks.normalization import ScaleShift

VERSION = 3  # of the C code: an older one may have been compiled
TYPES = {torch.float32: 0, torch.bfloat16: 1}  # supported types, and the flag by which the C knows them
WIDTH_MULTIPLE = 16  # of a head's width: the numbers of a vector register
MAX_WIDTH = 128
"""Width of a head up to which attention is faster than PyTorch's for any number of tokens, measured."""
MAX_TOKENS = {torch.float32: 1024, torch.bfloat16: 192}
"""Sequence length up to which the gradient of attention is no slower than PyTorch's, measured: beyond, the keys and
values of a head do not fit into a core's cache, and some processors multiply half precision ten times as fast."""


class _Norm(ctypes.Structure):
    """`Norm` of fused.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "pixels", "channels", "groups")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("half", "half_affine", "half_scale_shift", "silu")),
        ("scale_shift_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "scale", "shift")),
    ]

    def pointer(self, *parameters: Tensor | None) -> Any:
        """A pointer to this structure, with weight, bias, scale and shift set to where they are now."""
        self.weight, self.bias, self.scale, self.shift = map(_pointer, parameters)
        return ctypes.byref(self)


class _Attention(ctypes.Structure):
    """`Attention` of fused.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "heads", "width", "queries", "own", "context")),
        *((name, ctypes.c_int64) for name in ("context_stride", "context_row")),
        *((name, ctypes.c_int32) for name in ("half", "causal")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not compiled, or there is no OpenMP to run them."""
    path = Path(__file__).with_name(f"_fused{sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        loaded = ctypes.CDLL(str(path))
        loaded.glide_group_norm.argtypes = [ctypes.c_void_p] * 4
        loaded.glide_group_norm_back.argtypes = [ctypes.c_void_p] * 9
        loaded.glide_pixel_norm.argtypes = [ctypes.c_void_p] * 3
        loaded.glide_pixel_norm_back.argtypes = [ctypes.c_void_p] * 8
        loaded.glide_attention_back.argtypes = [ctypes.c_void_p] * 6
        loaded.glide_attention.argtypes = [ctypes.c_void_p] * 4
        return loaded if loaded.glide_fused_version() == VERSION else None
    except (AttributeError, OSError):
        return None


def supports_norm(x: Tensor) -> bool:
    """True for an input of `norm`: activations [N,C,H,W] on a CPU, channels_last, float32 or bfloat16."""
    return (
        x.device.type == "cpu"
        and x.dtype in TYPES
        and x.ndim == 4
        and not torch.compiler.is_compiling()  # which fuses by itself
        and library() is not None
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > 0
    )


def norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scale_shift: ScaleShift | None = None,
    silu: bool = False,
) -> Tensor:
    """norm(x) (1 + scale) + shift, then SiLU if `silu`: [N,C,H,W] -> [N,C,H,W], in the type of x.

    x: as `supports_norm`. groups: of group norm (1803.08494); 0: each pixel by itself, over its channels (layer norm).
    weight, bias [C]; scale, shift [N,C] or [N,C,1,1]: in float32 or bfloat16. A picture's result is the same bit for
    bit whatever else is in the batch. Differentiable once in everything.
    """
    n, c, h, w = x.shape
    assert weight.dtype == bias.dtype and weight.stride() == bias.stride() == (1,) and c % (groups or 1) == 0
    half, half_affine = TYPES[x.dtype], TYPES[weight.dtype]
    if scale_shift is None:
        call = _Norm(n, h * w, c, groups, eps, half, half_affine, 0, silu)
        inputs: tuple[Any, ...] = (x, weight, bias, None, None)
    else:
        scale, shift = scale_shift
        stride = scale.stride()
        assert scale.dtype == shift.dtype and stride == shift.stride() and stride[1] == 1
        call = _Norm(n, h * w, c, groups, eps, half, half_affine, TYPES[scale.dtype], silu, stride[0])
        inputs = (x, weight, bias, scale, shift)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs):
        return _FusedNorm.apply(call, *inputs)
    return _norm_forward(call, *inputs)[0]


def _norm_forward(call: _Norm, x: Tensor, *parameters: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The result [N,C,H,W], and mean and inverse deviation of each group, float64 [N,2,G]; None for a pixel norm."""
    y = torch.empty_like(x)
    if not call.groups:
        _check_status(_library().glide_pixel_norm(call.pointer(*parameters), *map(_pointer, (x, y))))
        return y, None
    stats = x.new_empty(len(x), 2, call.groups, dtype=torch.float64)
    _check_status(_library().glide_group_norm(call.pointer(*parameters), *map(_pointer, (x, y, stats))))
    return y, stats


class _FusedNorm(torch.autograd.Function):
    """`norm` with its gradient."""

    @staticmethod
    def forward(ctx: Any, call: _Norm, *inputs: Any) -> Tensor:
        y, stats = _norm_forward(call, *inputs)
        ctx.call = call
        ctx.save_for_backward(*inputs, stats)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters, stats = ctx.saved_tensors
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        gradients = [
            torch.empty(p.shape) if wanted else None
            for p, wanted in zip(parameters, ctx.needs_input_grad[2:], strict=True)
        ]
        call = ctx.call.pointer(*parameters)
        if stats is None:
            status = _library().glide_pixel_norm_back(call, *map(_pointer, (g, x, dx, *gradients)))
        else:
            status = _library().glide_group_norm_back(call, *map(_pointer, (g, x, stats, dx, *gradients)))
        _check_status(status)
        of_parameters = (
            d if d is None else d.to(p.dtype) for d, p in zip(gradients, parameters, strict=True)
        )
        return None, dx, *of_parameters


def supports_attention(queries: Tensor, context_kv: Tensor | None, width: int) -> bool:
    """True for inputs of `attention_forward`: [N,L,.] and [N,T,.] on a CPU, with heads of a supported width.

    False on processors older than AVX2, and in bfloat16 on those with AMX, whose matrix units PyTorch's kernel uses.
    """
    return (
        width <= MAX_WIDTH
        and _supports_inputs(queries, context_kv, width)
        and _library().glide_attention_supported() == 1
        and not (queries.dtype == torch.bfloat16 and _has_matrix_units())
    )


def supports_gradient(queries: Tensor, context_kv: Tensor | None, width: int) -> bool:
    """True for inputs of `attention` and `attention_gradient`: as `supports_attention`, on any processor, but short."""
    tokens = queries.shape[1] + (0 if context_kv is None else context_kv.shape[1])
    return tokens <= MAX_TOKENS.get(queries.dtype, 0) and _supports_inputs(queries, context_kv, width)


def _supports_inputs(queries: Tensor, context_kv: Tensor | None, width: int) -> bool:
    inputs = (queries,) if context_kv is None else (queries, context_kv)
    return (
        all(x.device.type == "cpu" and x.dtype == queries.dtype and x.numel() > 0 for x in inputs)
        and queries.dtype in TYPES
        and width % WIDTH_MULTIPLE == 0
        and not torch.compiler.is_compiling()
        and library() is not None
    )


@cache
def _has_matrix_units() -> bool:
    ask = getattr(torch.cpu, "_is_amx_tile_supported", None)
    return ask is not None and bool(ask())


def attention(qkv: Tensor, context_kv: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
    """`multi_head_attention` with the gradient in C.

    Inputs as `supports_gradient`; nothing but the inputs is kept for the backward pass. Differentiable once.
    """
    return _FusedAttention.apply(qkv, context_kv, heads, queries, causal)


def attention_forward(
    qkv: Tensor, context_kv: Tensor | None, heads: int, queries: int, causal: bool = False
) -> Tensor:
    """`multi_head_attention` without gradients: arguments and result as there, inputs as `supports_attention`.

    All arithmetic is in float32, but in bfloat16 on processors with units for it products are those of bfloat16. A
    query's result is the same bit for bit whatever other queries and pictures there are.
    """
    call, qkv, context_kv = _attention_call(qkv, context_kv, heads, queries, causal)
    out = torch.empty(len(qkv), queries, call.heads * call.width, dtype=qkv.dtype)
    pointers = map(_pointer, (qkv, context_kv, out))
    _check_status(_library().glide_attention(ctypes.byref(call), *pointers))
    return out


def _attention_call(
    qkv: Tensor, context_kv: Tensor | None, heads: int, queries: int, causal: bool
) -> tuple[_Attention, Tensor, Tensor | None]:
    """The call for tensors as the C reads them, which are returned after it."""
    length, stride, row, own, c = 0, 0, 0, qkv.shape[1], qkv.shape[2] // 3
    if context_kv is not None:
        context_kv = context_kv if context_kv.stride(2) == 1 else context_kv.contiguous()
        length, stride, row = context_kv.shape[1], context_kv.stride(0), context_kv.stride(1)
        if qkv.shape[2] == context_kv.shape[2] // 2:
            own, c = 0, qkv.shape[2]
    assert c % (heads * WIDTH_MULTIPLE) == 0 and queries <= qkv.shape[1] and (own or queries == qkv.shape[1])
    call = _Attention(
        len(qkv), heads, c // heads, queries, own, length, stride, row, TYPES[qkv.dtype], causal
    )
    return call, qkv.contiguous(), context_kv


class _FusedAttention(torch.autograd.Function):
    """`attention` with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, context_kv: Tensor | None, heads: int, queries: int, causal: bool
    ) -> Tensor:
        ctx.save_for_backward(qkv, context_kv)
        ctx.heads, ctx.causal = heads, causal
        in_c = supports_attention(qkv, context_kv, head_width(qkv, context_kv, heads))
        kernel = attention_forward if in_c else multi_head_attention
        return kernel(qkv, context_kv, heads, queries, causal)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        qkv, context_kv = ctx.saved_tensors
        dqkv, dcontext_kv = attention_gradient(g.to(qkv.dtype), qkv, context_kv, ctx.heads, ctx.causal)
        return dqkv, dcontext_kv, None, None, None


def attention_gradient(
    g: Tensor, qkv: Tensor, context_kv: Tensor | None, heads: int, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The gradients of qkv and context_kv, from that of softmax(q k^T / sqrt(d)) v for the first Q tokens, g [N,Q,C].

    qkv [N,L,3C], whose keys and values come after those of context_kv [N,T,2C] if there is a context; qkv [N,Q,C] are
    the queries of attention to the context alone. causal: token i attends to tokens 0 to i of its own. Inputs as
    `supports_gradient`; a picture's result is the same bit for bit whatever else is in the batch.
    """
    assert qkv.dtype == g.dtype
    g = g.contiguous()
    call, qkv, context_kv = _attention_call(qkv, context_kv, heads, g.shape[1], causal)
    dqkv = torch.empty_like(qkv)
    dcontext_kv = None if context_kv is None else torch.empty(context_kv.shape, dtype=context_kv.dtype)
    pointers = map(_pointer, (g, qkv, context_kv, dqkv, dcontext_kv))
    _check_status(_library().glide_attention_back(ctypes.byref(call), *pointers))
    return dqkv, dcontext_kv


def _library() -> ctypes.CDLL:
    loaded = library()
    assert loaded is not None
    return loaded


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _check_status(status: int) -> None:
    """MemoryError for a kernel that returned a status other than 0."""
    if status:
        raise MemoryError("no memory for a norm's sums or a head's scores")
