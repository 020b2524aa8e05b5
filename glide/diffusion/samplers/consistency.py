"""Multistep consistency sampling, for models that jump to the picture from any noise.

Shape letters: N batch, C channels, H W pixels, S entries of the (respaced) process.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser
from glide.diffusion.process import Process
from glide.diffusion.samplers.base import Noise, as_float32, denoise_x0, noise_levels


@torch.no_grad()
def consistency(process: Process, denoise: Denoiser, x: Tensor, noise: Noise) -> Iterator[Tensor]:
    """Predict the picture, noise it again to the next level with new noise (2303.01469, algorithm 1).

    A model that was not trained for it draws means of pictures: it predicts a mean, not the end of a path.
    """
    x = as_float32(x)
    for here, below in pairwise(noise_levels(process)):
        x0 = denoise_x0(denoise, x, here)
        x = below.alpha * x0 + below.sigma * noise(x0) if below.sigma else x0
        yield x
