"""Group norm and pixel norm by their definitions, with the scale, shift and SiLU that follow them in a U-Net.

The layers are `glide.networks.layers.GroupNorm` and `PixelNorm`; `glide.networks.cpu.dispatch` chooses between these
functions and a faster kernel with the same results.

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ScaleShift = tuple[Tensor, Tensor]
"""Scale and shift [N,C,1,1] of an adaptive norm, computed from an embedding (2105.05233, section 3.1)."""


def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    scale_shift: ScaleShift | None,
    silu: bool,
) -> Tensor:
    """silu(norm(x) (1 + scale) + shift) [N,C,H,W] of x [N,C,H,W]; weight, bias [C].

    norm(x) = (x - mean) / sqrt(variance + eps) * weight + bias, over the pixels and channels of each group
    (1803.08494).
    """
    return modulate(F.group_norm(x, groups, weight, bias, eps), scale_shift, silu)


def pixel_norm(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float, scale_shift: ScaleShift | None, silu: bool
) -> Tensor:
    """`group_norm`, with mean and variance over the channels of each pixel by itself: a layer norm (1607.06450)."""
    pixels = x.permute(0, 2, 3, 1)  # [N,H,W,C], free in channels_last
    y = F.layer_norm(pixels, weight.shape, weight, bias, eps)
    return modulate(y.permute(0, 3, 1, 2), scale_shift, silu)


def modulate(x: Tensor, scale_shift: ScaleShift | None, silu: bool) -> Tensor:
    """x (1 + scale) + shift where they are given, then SiLU if `silu`: [N,C,H,W] -> [N,C,H,W]."""
    if scale_shift is not None:
        scale, shift = scale_shift
        x = torch.addcmul(shift, x, 1 + scale)
    return F.silu(x) if silu else x
