"""Operations in one go on a CPU: a norm, the scale and shift of an embedding, and SiLU; and attention, backwards.

Around the convolutions of a U-Net stand norms and what follows them, each of which walks through all activations: on a
CPU a fifth to a third of a step. Together, in C (`fused_groups.c`, `fused_pixels.c`), they take half of that or less,
and nothing but the input has to be kept for the way back. The gradient of attention between few tokens needs no scores
in memory (`fused_attention.c`). The C is compiled where the package is installed, if there is a compiler; without,
PyTorch's operations do the same.

Shape letters: N batch, C channels, H W pixels, G groups, L tokens, T told tokens.
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

VERSION = 2  # of the C, which may have been compiled from other files
HALF = {torch.float32: 0, torch.bfloat16: 1}  # the types that it takes
LANES = 16  # numbers that a head's width is a multiple of
MOST_TOKENS = {torch.float32: 1024, torch.bfloat16: 192}
"""Up to which the gradient of attention is no slower than PyTorch's, measured: beyond, the keys and values of a head no
longer lie in a core's cache, and some processors multiply numbers of half precision ten times as fast."""


class _Norm(ctypes.Structure):
    """`Norm` of fused.h."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "pixels", "channels", "groups")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("half", "half_affine", "half_told", "silu")),
        ("told_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "scale", "shift")),
    ]

    def reading(self, *parameters: Tensor | None) -> Any:
        """A pointer to this, for a call that finds weight, bias, scale and shift where these are now."""
        self.weight, self.bias, self.scale, self.shift = map(_pointer, parameters)
        return ctypes.byref(self)


class _Attention(ctypes.Structure):
    """`Attention` of fused_attention.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "heads", "width", "queries", "own", "told")),
        *((name, ctypes.c_int64) for name in ("told_stride", "told_row")),
        *((name, ctypes.c_int32) for name in ("half", "causal")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not compiled, or there is no OpenMP to run them."""
    path = Path(__file__).with_name(f"_fused{sysconfig.get_config_var('EXT_SUFFIX')}")
    try:
        found = ctypes.CDLL(str(path))
        found.glide_group_norm.argtypes = [ctypes.c_void_p] * 4
        found.glide_group_norm_back.argtypes = [ctypes.c_void_p] * 9
        found.glide_pixel_norm.argtypes = [ctypes.c_void_p] * 3
        found.glide_pixel_norm_back.argtypes = [ctypes.c_void_p] * 8
        found.glide_attention_back.argtypes = [ctypes.c_void_p] * 6
        return found if found.glide_fused_version() == VERSION else None
    except (AttributeError, OSError):
        return None


def plain_wanted() -> bool:
    """Whether the caller wants second derivatives, which ours have none of: `torch.nn.attention.sdpa_kernel`."""
    return torch.is_grad_enabled() and not torch.backends.cuda.flash_sdp_enabled()


def takes(x: Tensor) -> bool:
    """Whether `norm` is for this input: activations [N,C,H,W] on a CPU, channels_last, float32 or bfloat16."""
    return (
        x.device.type == "cpu"
        and x.dtype in HALF
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
    told: tuple[Tensor, Tensor] | None = None,
    silu: bool = False,
) -> Tensor:
    """norm(x) (1 + scale) + shift, through SiLU where asked: [N,C,H,W] -> [N,C,H,W], in the type of x.

    groups: of group norm (1803.08494); 0: each pixel by itself, over its channels (layer norm).
    weight, bias [C]; told: scale and shift, [N,C] or [N,C,1,1]. All in float32 or bfloat16; a picture's numbers are the
    same bit for bit whatever else is in the batch. Differentiable once in everything. x as `takes` wants it.
    """
    n, c, h, w = x.shape
    assert weight.dtype == bias.dtype and weight.stride() == bias.stride() == (1,) and c % (groups or 1) == 0
    half, half_affine = HALF[x.dtype], HALF[weight.dtype]
    if told is None:
        call = _Norm(n, h * w, c, groups, eps, half, half_affine, 0, silu)
        given: tuple[Any, ...] = (x, weight, bias, None, None)
    else:
        scale, shift = told
        stride = scale.stride()
        assert scale.dtype == shift.dtype and stride == shift.stride() and stride[1] == 1
        call = _Norm(n, h * w, c, groups, eps, half, half_affine, HALF[scale.dtype], silu, stride[0])
        given = (x, weight, bias, scale, shift)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        return _Norming.apply(call, *given)
    return _forward(call, *given)[0]


def _forward(call: _Norm, x: Tensor, *parameters: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The result, and of each group, where there are any, the mean and one over the deviation, float64 [N,2,G]."""
    y = torch.empty_like(x)
    if not call.groups:
        _done(_library().glide_pixel_norm(call.reading(*parameters), *map(_pointer, (x, y))))
        return y, None
    stats = x.new_empty(len(x), 2, call.groups, dtype=torch.float64)
    _done(_library().glide_group_norm(call.reading(*parameters), *map(_pointer, (x, y, stats))))
    return y, stats


class _Norming(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Norm, *given: Any) -> Tensor:
        y, stats = _forward(call, *given)
        ctx.call = call
        ctx.save_for_backward(*given, stats)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters, stats = ctx.saved_tensors
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        changes = [
            torch.empty(p.shape) if wanted else None
            for p, wanted in zip(parameters, ctx.needs_input_grad[2:], strict=True)
        ]
        read = ctx.call.reading(*parameters)
        if stats is None:
            _done(_library().glide_pixel_norm_back(read, *map(_pointer, (g, x, dx, *changes))))
        else:
            _done(_library().glide_group_norm_back(read, *map(_pointer, (g, x, stats, dx, *changes))))
        return (
            None,
            dx,
            *(d if d is None else d.to(p.dtype) for d, p in zip(changes, parameters, strict=True)),
        )


def attends(queries: Tensor, told: Tensor | None, width: int) -> bool:
    """Whether `attention_gradient` is for these queries, keys and values [N,L,.] and [N,T,.] in heads of that width."""
    of = (queries,) if told is None else (queries, told)
    most = MOST_TOKENS.get(queries.dtype, 0)
    return (
        all(x.device.type == "cpu" and x.dtype == queries.dtype and x.numel() > 0 for x in of)
        and width % LANES == 0
        and sum(x.shape[1] for x in of) <= most
        and not torch.compiler.is_compiling()
        and library() is not None
    )


def attention_gradient(
    g: Tensor, qkv: Tensor, told: Tensor | None, heads: int, causal: bool = False
) -> tuple[Tensor, Tensor | None]:
    """The gradients of qkv and told from g [N,Q,C], that of softmax(q k^T / sqrt(d)) v for the first Q tokens.

    qkv [N,L,3C], whose keys and values come after those of `told` [N,T,2C], where there are any; or of told alone, then
    qkv is q [N,Q,C]. causal: token i sees tokens 0 to i of its own. As `attends` wants them; a picture's numbers are
    the same bit for bit whatever else is in the batch.
    """
    n, queries, c = g.shape
    own = 0 if qkv.shape[2] == c else qkv.shape[1]
    assert qkv.dtype == g.dtype and (own or told is not None) and c % (heads * LANES) == 0
    g, qkv = g.contiguous(), qkv.contiguous()
    length, stride, row = 0, 0, 0
    if told is not None:
        told = told if told.stride(2) == 1 else told.contiguous()
        length, stride, row = told.shape[1], told.stride(0), told.stride(1)
    call = _Attention(n, heads, c // heads, queries, own, length, stride, row, HALF[g.dtype], causal)
    dqkv = torch.empty_like(qkv)
    dtold = None if told is None else torch.empty(told.shape, dtype=told.dtype)
    pointers = map(_pointer, (g, qkv, told, dqkv, dtold))
    _done(_library().glide_attention_back(ctypes.byref(call), *pointers))
    return dqkv, dtold


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _done(status: int) -> None:
    if status:
        raise MemoryError("no memory for a norm's sums or a head's scores")
