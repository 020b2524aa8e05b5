"""Norm, the scale and shift of an embedding, and SiLU in one go on a CPU.

Around the convolutions of a U-Net stand these operations, each of which walks through all activations: on a CPU a fifth
to a third of a step. Together, in C (`fused_groups.c`, `fused_pixels.c`), they take half of that or less, and nothing
but the input has to be kept for the way back. The C is compiled where the package is installed, if there is a compiler;
without, PyTorch's operations do the same.

Shape letters: N batch, C channels, H W pixels, G groups.
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

VERSION = 1  # of the C, which may have been compiled from other files
HALF = {torch.float32: 0, torch.bfloat16: 1}  # the types that it takes


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
        return found if found.glide_fused_version() == VERSION else None
    except (AttributeError, OSError):
        return None


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
    scale, shift = (None, None) if told is None else (told[0].flatten(1), told[1].flatten(1))
    like = weight[None] if scale is None else scale
    assert weight.dtype == bias.dtype and weight.stride() == bias.stride() == (1,) and c % (groups or 1) == 0
    assert shift is None or (shift.dtype, shift.stride()) == (like.dtype, (like.stride(0), 1))
    assert like.stride(1) == 1
    halves = (HALF[t.dtype] for t in (x, weight, like))
    call = _Norm(n, h * w, c, groups, eps, *halves, silu, like.stride(0))
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
        changes = [None if p is None else torch.empty_like(p, dtype=torch.float32) for p in parameters]
        read = ctx.call.reading(*parameters)
        if stats is None:
            _done(_library().glide_pixel_norm_back(read, *map(_pointer, (g, x, dx, *changes))))
        else:
            _done(_library().glide_group_norm_back(read, *map(_pointer, (g, x, stats, dx, *changes))))
        typed = [d if d is None else d.to(p.dtype) for d, p in zip(changes, parameters, strict=True)]
        return None, dx, *typed


def _library() -> ctypes.CDLL:
    found = library()
    assert found is not None
    return found


def _pointer(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _done(status: int) -> None:
    if status:
        raise MemoryError("no memory for the sums of a norm")
