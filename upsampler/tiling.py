"""Large pictures in overlapping tiles: one network call a tile, blended within each step (2302.08113).

The whole picture is one x_t with one noise, and only what the network says of it comes in parts. So tiles agree on
what they see, no seam is drawn, and the network needs no more memory than for one tile.

Shape letters: N pictures, C channels, P planes, H W pixels.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network
from glide.networks.model import Model

OVERLAP = 0.25  # of a tile's side, at least, that it shares with the next one
MARGIN = 0.25  # of the overlap: the outermost pixels, which lack their surroundings, do not count


def in_tiles(network: Network, model: Model, tile: int | None = None, overlap: float = OVERLAP) -> Network:
    """The same network, called in tiles where a picture is larger than one.

    tile: height and width; by default the model's own size, which it was trained for. What fits into a tile is given
    to the network as it is. overlap: share of a tile's side, from 0 to below 1.
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
        for top in starts(height, side, shared, factor):
            for left in starts(width, side, shared, factor):
                part = (..., slice(top, top + side), slice(left, left + side))
                seen = cond if cond.planes is None else replace(cond, planes=cond.planes[part])
                output = network(x[part], t, seen).float()  # [N,C or 2C,h,w]
                window = torch.outer(
                    ramps(output.shape[-2], shared, top > 0, top + side < height),
                    ramps(output.shape[-1], shared, left > 0, left + side < width),
                ).to(x.device)
                if total is None:
                    total = output.new_zeros(*output.shape[:2], height, width)
                total[part] += window * output
                weights[part] += window
        assert total is not None
        return total.div_(weights)

    return tiled


def starts(length: int, tile: int, overlap: int, factor: int) -> list[int]:
    """Where tiles begin that cover `length`, evenly, each sharing at least `overlap` with the next.

    All are multiples of `factor`, as `length` and `tile` are: so the network's inner grid is the same in all tiles.
    """
    if length <= tile:
        return [0]
    step = max((tile - overlap) // factor, 1) * factor
    count = -(-(length - tile) // step) + 1
    spread = (length - tile) // factor
    return [index * spread // (count - 1) * factor for index in range(count)]


def ramps(length: int, overlap: int, before: bool, after: bool) -> Tensor:
    """How much each pixel of a side counts, [length]: less towards a side with a neighbour, before or after it."""
    weights = torch.ones(length)
    if overlap:
        # from nothing in the margin to 1 where the neighbour's margin begins: one of the two always counts
        inside = max(overlap * (1 - 2 * MARGIN), 1.0)
        rise = ((torch.arange(length) + 0.5 - overlap * MARGIN) / inside).clamp(0.0, 1.0)
        if before:
            weights = weights * rise
        if after:
            weights = weights * rise.flip(0)
    return weights
