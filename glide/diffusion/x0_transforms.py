"""Rescaled guidance: the contrast that guidance added is taken back (2305.08891, section 3.4).

Shape letters: N batch, C channels, H W pixels.
"""

import torch
from torch import Tensor

from glide.diffusion.rows import per_image


def rescaled(main: Tensor, guided: Tensor, share: float) -> Tensor:
    """guided * (share * std(main) / std(guided) + 1 - share): eq. 15 and 16, with x0 in place of the network's output.

    main, guided: the unguided and the guided x0 [N,C,H,W], each with a deviation of its own. share: phi there, 0 (not
    at all, exactly) to 1.
    """
    if share == 0.0 or guided is main:
        return guided

    def of_one(main: Tensor, guided: Tensor) -> Tensor:
        deviation = guided.std()
        ratio = torch.where(
            deviation > 0, main.std() / deviation, 1.0
        )  # one colour has no contrast to take back
        return guided * (1.0 + share * (ratio - 1.0))

    return per_image(of_one, main, guided)
