"""Transforms of the guided x0: rescaled guidance (2305.08891) and dynamic thresholding (Imagen, 2205.11487).

Shape letters: N batch, C channels, H W pixels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from glide.utils.errors import InputError


def rescaled(main: Tensor, guided: Tensor, share: float) -> Tensor:
    """Rescaled guidance, which takes back the contrast that guidance added (2305.08891, section 3.4).

    guided * (share * std(main) / std(guided) + 1 - share): eq. 15 and 16, with x0 in place of the network's output.
    main, guided: the unguided and the guided x0 [N,C,H,W], each with its own deviation. share: phi there, 0 (exactly
    no change) to 1.
    """
    if share == 0.0 or guided is main:
        return guided

    def of_one(main: Tensor, guided: Tensor) -> Tensor:
        deviation = guided.std()
        # a picture of one colour has no contrast to take back
        ratio = torch.where(deviation > 0, main.std() / deviation, 1.0)
        return guided * (1.0 + share * (ratio - 1.0))

    return per_image(of_one, main, guided)


def per_image(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """`function` of the rows of the tensors [N,...], one picture at a time, stacked again: [N,...].

    The rounding of a sum depends on how many rows are summed at once, and a picture must not depend on the others in
    its batch.
    """
    return torch.stack([function(*rows) for rows in zip(*tensors, strict=True)])


def dynamic_threshold(share: float) -> Callable[[Tensor], Tensor]:
    """Dynamic thresholding (Imagen, 2205.11487, section 2.3), which scales a picture into its bounds: no clipping.

    Returns a map of x0 for `glide.diffusion.denoiser.project`, in place of `clamp`: x0 -> clamp(x0, -s, s) / s. s is
    the value below which a `share` of the picture's |x0| lie, but at least 1, so that a picture within [-1, 1] stays
    as it is. share: above 0, to 1, at which nothing is clipped; InputError for others.
    """
    if not 0.0 < share <= 1.0:
        raise InputError(
            f"got the threshold {share}, expected a share of the pixels above 0, to 1: try 0.995"
        )

    def scaled(x0: Tensor) -> Tensor:
        values = x0.abs().flatten(1)  # [N,C,H,W] -> [N,CHW]
        rank = max(1, math.ceil(share * values.shape[1]))
        s = values.kthvalue(rank, dim=1).values.clamp(min=1.0).reshape(-1, *[1] * (x0.ndim - 1))  # [N,1,1,1]
        return x0.clamp(-s, s) / s

    return scaled
