"""A convolutional network on a large picture, in tiles with margins: the same result in less memory.

Shape letters: C O channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

TILE = 512
"""Side of a tile in pixels of the picture, without its margins."""


def in_exact_tiles(
    network: Callable[[Tensor], Tensor], x: Tensor, scale: float, margin: int, tile: int = TILE
) -> Tensor:
    """network(x), computed in tiles where x is large: [1,C,H,W] -> [1,O,H*scale,W*scale].

    scale: of the network, a power of two or its inverse. margin: pixels of x around a tile that the network sees too;
    with as many as it reaches, the result is that of the whole, to rounding. tile: side of a tile on the larger of
    the two sides of the network.
    """
    side = tile if scale < 1 else max(int(tile / scale), 1)
    height, width = x.shape[-2:]
    if height <= 2 * side and width <= 2 * side:
        return network(x)
    result: Tensor | None = None
    for rows, top, bottom in _spans(height, side, margin):
        for columns, left, right in _spans(width, side, margin):
            done = network(x[..., top:bottom, left:right])
            if result is None:
                result = done.new_empty(1, done.shape[1], round(height * scale), round(width * scale))
            cut = done[..., _scaled(rows, top, scale), _scaled(columns, left, scale)]
            result[..., _scaled(rows, 0, scale), _scaled(columns, 0, scale)] = cut
    assert result is not None
    return result


def _spans(length: int, side: int, margin: int) -> Iterator[tuple[slice, int, int]]:
    """Tiles along one dimension: their own place, and where they begin and end with their margins."""
    for start in range(0, length, side):
        stop = min(start + side, length)
        yield slice(start, stop), max(start - margin, 0), min(stop + margin, length)


def _scaled(place: slice, start: int, scale: float) -> slice:
    return slice(round((place.start - start) * scale), round((place.stop - start) * scale))
