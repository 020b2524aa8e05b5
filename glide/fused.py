"""Group norm, the scale and shift of an embedding, and SiLU in one go on a CPU (`fused.c`).

Around the convolutions of a U-Net stand these operations, each of which walks through all activations. On a CPU they
take as long as the convolutions themselves. Together, in C, they take a third to a half of that, and nothing but the
input has to be kept for the way back. The C is compiled where the package is installed, if there is a compiler;
without, PyTorch's operations do the same.

Shape letters: N batch, C channels, H W pixels, G groups.
"""

from __future__ import annotations

import ctypes
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

HALF = {torch.float32: 0, torch.bfloat16: 1}  # the types that it takes


class _Norm(ctypes.Structure):
    """`Norm` of fused.c."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in ("pictures", "pixels", "channels", "groups")),
        ("eps", ctypes.c_double),
        *((name, ctypes.c_int32) for name in ("half", "half_affine", "half_told", "silu")),
        ("told_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "scale", "shift")),
    ]


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where they were not compiled, or there is no OpenMP to run them."""
    for suffix in EXTENSION_SUFFIXES:
        try:
            found = ctypes.CDLL(str(Path(__file__).with_name(f"_fused{suffix}")))
            if found.glide_norm_size() == ctypes.sizeof(_Norm):
                found.glide_norm.argtypes = [ctypes.c_void_p] * 4
                found.glide_norm_back.argtypes = [ctypes.c_void_p] * 9
                return found
        except (AttributeError, OSError):
            pass
    return None


def takes(x: Tensor) -> bool:
    """Whether `group_norm` is for this input: activations [N,C,H,W] on a CPU, channels_last, float32 or bfloat16."""
    return (
        x.device.type == "cpu"
        and x.dtype in HALF
        and x.ndim == 4
        and not torch.compiler.is_compiling()  # which fuses by itself
        and library() is not None
        and x.is_contiguous(memory_format=torch.channels_last)
        and x.numel() > 0
    )


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    told: tuple[Tensor, Tensor] | None = None,
    silu: bool = False,
) -> Tensor:
    """F.group_norm(x) (1 + scale) + shift, through SiLU where asked: [N,C,H,W] -> [N,C,H,W], in the type of x.

    weight, bias [C]; told: scale and shift, [N,C] or [N,C,1,1]. All in float32 or bfloat16; a picture's numbers are the
    same bit for bit whatever else is in the batch. Differentiable once in everything. x as `takes` wants it.
    """
    scale, shift = (None, None) if told is None else (told[0].flatten(1), told[1].flatten(1))
    given = (x, weight, bias, scale, shift)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in given):
        return _GroupNorm.apply(*given, groups, eps, silu)
    return _forward(*given, groups, eps, silu)[0]


def _forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    eps: float,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """The result, and of each group the mean and one over the deviation, float64 [N,2,G]."""
    y, stats = torch.empty_like(x), torch.empty(len(x), 2, groups, dtype=torch.float64)
    call = _call(x, weight, bias, scale, shift, groups, eps, silu)
    _done(_library().glide_norm(ctypes.byref(call), x.data_ptr(), y.data_ptr(), stats.data_ptr()))
    return y, stats


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        y, stats = _forward(*given)
        ctx.save_for_backward(*given[:5], stats)
        ctx.rest = given[5:]
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, scale, shift, stats = ctx.saved_tensors
        g = g.to(x.dtype).contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dweight, dbias = torch.empty(2, x.shape[1]).unbind()
        dscale, dshift = torch.empty(2, *scale.shape).unbind() if scale is not None else (None, None)
        call = _call(x, weight, bias, scale, shift, *ctx.rest)
        results = [_pointer(t) for t in (dx, dweight, dbias, dscale, dshift)]
        _done(
            _library().glide_norm_back(
                ctypes.byref(call), g.data_ptr(), x.data_ptr(), stats.data_ptr(), *results
            )
        )
        if dscale is not None and dshift is not None:
            dscale, dshift = dscale.to(scale.dtype), dshift.to(shift.dtype)
        return dx, dweight.to(weight.dtype), dbias.to(bias.dtype), dscale, dshift, None, None, None


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def _call(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    scale: Tensor | None,
    shift: Tensor | None,
    groups: int,
    eps: float,
    silu: bool,
) -> _Norm:
    n, c, h, w = x.shape
    assert weight.dtype == bias.dtype and weight.is_contiguous() and bias.is_contiguous() and c % groups == 0
    told = scale if scale is not None else weight[None]
    assert shift is None or (
        shift.dtype == told.dtype and shift.stride() == told.stride() == (told.stride(0), 1)
    )
    return _Norm(
        n,
        h * w,
        c,
        groups,
        eps,
        HALF[x.dtype],
        HALF[weight.dtype],
        HALF[told.dtype],
        silu,
        told.stride(0),
        weight.data_ptr(),
        bias.data_ptr(),
        _pointer(scale),
        _pointer(shift),
    )


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _done(status: int) -> None:
    if status:
        raise MemoryError("no memory for the sums of a group norm")
