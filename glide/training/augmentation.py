"""Augmentation that does not leak: pictures are moved in training, and the network receives how as an input.

A model that saw each of a few thousand pictures a hundred times draws those, and little else. Moved ones are new to it
every time; as it receives the movement, and none in sampling, it still draws upright and centred pictures
(EDM, 2206.00364, appendix F.2).

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.networks.augmentation import LABELS
from glide.training.row_rng import RowRng

SCALE = 0.2
"""Standard deviation of the logarithm (to base 2) of the scale, and of that of width to height."""
TURN = math.radians(15)
"""Standard deviation of the angle, in radians: EDM turns freely, but captions say "up" and "left"."""
SHIFT = 0.125
"""Standard deviation of a shift, as a share of the shorter side."""


def augment(image: Tensor, share: float, draws: RowRng) -> tuple[Tensor, Tensor]:
    """Scale, stretch, turn and shift a share of the pictures, each movement by itself.

    image [N,C,H,W] in [-1,1], share from 0 to 1 -> (the same, labels [N,LABELS] float32). Labels are the movements in
    units of their standard deviations (scale, stretch, shift to the right and down), sine and 1 - cosine of the angle;
    zeros where nothing is moved, and that picture is then the same number for number. What comes into sight repeats the
    pixels of the edge.
    """
    moves = torch.stack([_normal(draws) * (draws.uniform() < share) for _ in range(4)])  # [4,N]
    down = _normal(draws) * (moves[3] != 0)  # a shift goes both ways
    scale, stretch, turn, right = moves
    angle = turn * TURN
    labels = torch.stack([scale, stretch, right, down, angle.sin(), 1 - angle.cos()], dim=1)  # [N,LABELS]
    assert labels.shape[1] == LABELS
    moved = labels.any(dim=1).nonzero()[:, 0]
    if not len(moved):
        return image, labels
    size = (image.shape[-2], image.shape[-1])
    theta = to_original(scale[moved], stretch[moved], angle[moved], right[moved], down[moved], size).to(image)
    places = moved.to(image.device)
    grid = F.affine_grid(theta, [len(moved), *image.shape[1:]], align_corners=False)
    parts = F.grid_sample(image[places], grid, "bicubic", padding_mode="border", align_corners=False)
    return image.index_copy(0, places, parts.clamp(-1, 1)), labels


def to_original(
    scale: Tensor, stretch: Tensor, angle: Tensor, right: Tensor, down: Tensor, size: tuple[int, int]
) -> Tensor:
    """The matrices [N,2,3] that lead from a place in the moved picture to that in the original.

    Places are those of `torch.nn.functional.affine_grid`, from -1 to 1. All arguments [N], as in `augment`, the angle
    in radians (clockwise, as y points down).
    """
    height, width = size
    shorter = min(size)
    wide, high = 2 ** (SCALE * (scale + stretch)), 2 ** (SCALE * (scale - stretch))
    cos, sin = angle.cos(), angle.sin()
    # turned, then scaled, then shifted; so back: shift, scale, turn, in pixels from the middle
    back = torch.stack(
        [torch.stack([cos / wide, sin / high], -1), torch.stack([-sin / wide, cos / high], -1)], -2
    )  # [N,2,2]
    shift = torch.stack([right, down], -1) * (SHIFT * shorter)  # [N,2] pixels
    half = torch.tensor([width / 2, height / 2])
    matrix = back * half / half[:, None]  # [N,2,2], of places from -1 to 1
    offset = -(back @ shift[:, :, None])[:, :, 0] / half  # [N,2]
    return torch.cat([matrix, offset[:, :, None]], dim=2)


def _normal(draws: RowRng) -> Tensor:
    """Gaussians [N] on the CPU, cut at three standard deviations, so that no picture leaves the frame."""
    return torch.special.ndtri(draws.uniform().clamp(1e-6, 1 - 1e-6)).clamp(-3, 3)
