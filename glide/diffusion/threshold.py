"""Dynamic thresholding: the picture is scaled into its bounds, not cut off at them (Imagen, 2205.11487, section 2.3).

Shape letters: N batch, C channels, H W pixels.
"""

import math
from collections.abc import Callable

from torch import Tensor

from glide.utils.errors import InputError


def dynamic_threshold(share: float) -> Callable[[Tensor], Tensor]:
    """A map of x0 for `glide.diffusion.denoiser.project`, in place of `clamp`: x0 -> clamp(x0, -s, s) / s.

    s is the value below which a `share` of the picture's |x0| lie, but at least 1, so that a picture within [-1, 1]
    stays as it is. share: above 0, to 1 (InputError), at which nothing is cut off.
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
