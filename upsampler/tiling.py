"""Tiling of large pictures: one network call for each overlapping tile, blended within each step (2302.08113).

The whole picture is one x_t with one noise, and only the network's predictions are made in parts. So overlapping tiles
agree on their inputs, no seam appears, and the network needs memory for one tile only.

Shape letters: N pictures, C channels, P planes, H W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network
from glide.networks.model import Model

OVERLAP = 0.25  # minimum share of a tile's side that it has in common with the next one
MARGIN = 0.25  # share of the overlap: the outermost pixels, which lack their surroundings, have weight 0


def in_tiles(network: Network, model: Model, tile: int | None = None, overlap: float = OVERLAP) -> Network:
    """The network, called in tiles for pictures larger than one tile.

    tile: height and width; by default the model's own size, for which it was trained. A picture that fits into a tile
    goes to the network unchanged. overlap: share of a tile's side, from 0 to below 1.
    """
    factor = model.config.unet.factor
    side = tile or model.config.unet.image_size
    assert side % factor == 0 and 0.0 <= overlap < 1.0
    shared = round(overlap * side)

    def tiled(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        height, width = x.shape[-2:]
        if height <= side and width <= side:
            return network(x, t, cond)
        total: Tensor | None = None
        weights = torch.zeros(1, 1, height, width, device=x.device)
        for top in tile_starts(height, side, shared, factor):
            for left in tile_starts(width, side, shared, factor):
                part = (..., slice(top, top + side), slice(left, left + side))
                tile_cond = cond if cond.planes is None else replace(cond, planes=cond.planes[part])
                output = network(x[part], t, tile_cond).float()  # [N,C or 2C,h,w]
                window = torch.outer(
                    tile_weights(output.shape[-2], shared, top > 0, top + side < height),
                    tile_weights(output.shape[-1], shared, left > 0, left + side < width),
                ).to(x.device)
                if total is None:
                    total = output.new_zeros(*output.shape[:2], height, width)
                total[part] += window * output
                weights[part] += window
        assert total is not None
        return total.div_(weights)

    return tiled


def tile_starts(length: int, tile: int, overlap: int, factor: int) -> list[int]:
    """Start positions of tiles that evenly cover `length`, with at least `overlap` between neighbours.

    All are multiples of `factor`, as `length` and `tile` are, so that the network's inner grid is the same in all
    tiles.
    """
    if length <= tile:
        return [0]
    step = max((tile - overlap) // factor, 1) * factor
    count = -(-(length - tile) // step) + 1
    spread = (length - tile) // factor
    return [index * spread // (count - 1) * factor for index in range(count)]


def tile_weights(length: int, overlap: int, before: bool, after: bool) -> Tensor:
    """Weights [length] of the pixels along a side, falling towards a neighbouring tile before or after it."""
    weights = torch.ones(length)
    if overlap:
        # from 0 in the margin to 1 where the neighbour's margin begins: at least one of the two is above 0
        inside = max(overlap * (1 - 2 * MARGIN), 1.0)
        rise = ((torch.arange(length) + 0.5 - overlap * MARGIN) / inside).clamp(0.0, 1.0)
        if before:
            weights = weights * rise
        if after:
            weights = weights * rise.flip(0)
    return weights
