"""Cheap previews of latents: an affine map from a latent pixel to its colour, learned from finished pictures.

A decoder takes longer than several steps of sampling; this map costs nothing, and shows colours and places, blurred. It
is the least-squares fit over all pixels of the pictures that were drawn so far.

Shape letters: N pictures, c latent channels, h w latent pixels, C channels of pictures, H W pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 1e-4  # of the mean square of the channels: directions that no picture has shown stay quiet


class LatentPreview:
    """The map of one model's latents. It knows nothing before the first picture."""

    def __init__(self) -> None:
        self._gram: Tensor | None = None  # [c+1,c+1] float64, sum of products of channels
        self._cross: Tensor | None = None  # [c+1,C] float64, of channels and colours

    @property
    def known(self) -> bool:
        """True once a picture was learned from."""
        return self._gram is not None

    def learn(self, latents: Tensor, pictures: Tensor) -> None:
        """Learn from finished latents [N,c,h,w] and their pictures [N,C,H,W]."""
        height, width = latents.shape[-2:]
        small = F.adaptive_avg_pool2d(pictures.detach().float().cpu(), (height, width))
        x, y = _channels(latents), small.permute(0, 2, 3, 1).flatten(0, 2).double()
        gram, cross = x.T @ x, x.T @ y
        self._gram = gram if self._gram is None else self._gram + gram
        self._cross = cross if self._cross is None else self._cross + cross

    def __call__(self, latents: Tensor) -> Tensor:
        """From latents [N,c,h,w] to small pictures [N,C,h,w], nominally in [-1, 1]."""
        assert self._gram is not None and self._cross is not None
        ridge = RIDGE * float(self._gram.diagonal().mean())
        weights = torch.linalg.solve(
            self._gram + ridge * torch.eye(len(self._gram), dtype=torch.float64), self._cross
        )
        count, _, height, width = latents.shape
        return (_channels(latents) @ weights).view(count, height, width, -1).permute(0, 3, 1, 2).float()


def _channels(latents: Tensor) -> Tensor:
    """[N,c,h,w] -> [N*h*w,c+1] float64, the last one 1."""
    rows = latents.detach().double().cpu().permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
