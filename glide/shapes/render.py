"""Render scenes at any resolution, anti-aliased by the signed distance to each outline.

Shape letters: N scenes, K things of one shape, B side of the box of pixels around a thing.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glide.shapes.scene import BACKGROUNDS, COLORS, SHAPES, Scene, Thing
from glide.utils.errors import InputError

Array = NDArray[Any]

# Every shape touches or stays inside the square [-1, 1] x [-1, 1]; y runs down.
SQUARE_HALF = 0.90
RING_HOLE = 0.58
CROSS_ARM = 0.34
TRIANGLE_HALF_HEIGHT = 0.90
STAR_INNER = 0.45  # inner radius over outer radius
HEART_DIAMOND = 1 / (0.5 + 0.5**0.5)  # half diagonal of the square below the heart's two discs


# Signed distances in units of the radius, negative inside. x, y: broadcastable to [K, B, B]. Outside of sharp corners
# some are smaller than the true distance, which rounds no corner: only the zero line is visible.


def _circle(x: Array, y: Array) -> Array:
    return np.hypot(x, y) - 1


def _square(x: Array, y: Array) -> Array:
    return np.maximum(np.abs(x), np.abs(y)) - SQUARE_HALF


def _triangle(x: Array, y: Array) -> Array:
    h = TRIANGLE_HALF_HEIGHT  # tip (0, -h), feet (+-1, h)
    length = (1 + 4 * h * h) ** 0.5
    side = np.abs(x) * (2 * h / length) - (y + h) / length
    return np.maximum(side, y - h)


def _star(x: Array, y: Array) -> Array:
    tip, angle = 1 / math.sin(0.4 * math.pi), math.pi / 5  # widest points at x = +-1
    y = y - tip * (1 - math.cos(angle)) / 2  # the box's centre to the star's centre
    # Fold the plane by the star's mirrors into the wedge to the right of the upward tip.
    x = np.abs(x)
    for a in (2 * angle, angle):  # mirrors through the centre, `a` away from straight up
        nx, ny = math.cos(a), math.sin(a)
        over = np.maximum(x * nx + y * ny, 0)
        x, y = x - 2 * over * nx, y - 2 * over * ny
        x = np.abs(x)
    # One edge remains, from the tip (0, -tip) to the notch.
    ex, ey = STAR_INNER * tip * math.sin(angle), tip * (1 - STAR_INNER * math.cos(angle))
    return (x * ey - (y + tip) * ex) / math.hypot(ex, ey)


def _ring(x: Array, y: Array) -> Array:
    return np.abs(np.hypot(x, y) - (1 + RING_HOLE) / 2) - (1 - RING_HOLE) / 2


def _cross(x: Array, y: Array) -> Array:
    x, y = np.abs(x), np.abs(y)
    return np.maximum(np.maximum(x, y) - 1, np.minimum(x, y) - CROSS_ARM)


def _diamond(x: Array, y: Array) -> Array:
    return (np.abs(x) + np.abs(y) - 1) * 0.5**0.5


def _heart(x: Array, y: Array) -> Array:
    d = HEART_DIAMOND
    x, y = np.abs(x), y + (d - 1) / 2  # the box's centre to the diamond's centre
    diamond = (x + np.abs(y) - d) * 0.5**0.5
    return np.minimum(diamond, np.hypot(x - d / 2, y + d / 2) - d * 0.5**0.5)


DISTANCES: dict[str, Callable[[Array, Array], Array]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "diamond": _diamond,
    "heart": _heart,
}


def coverage(shape: str, x: Array, y: Array, radius: Array) -> Array:
    """Share of each pixel that a shape covers, 0..1.

    x, y: pixel centres relative to the shape's centre, and radius, all in pixels and broadcastable.
    """
    # The distance changes by one pixel's width across an edge: a pixel is half covered where it is zero.
    return np.clip(0.5 - DISTANCES[shape](x / radius, y / radius) * radius, 0, 1)


def render(scenes: Sequence[Scene], size: int) -> NDArray[np.uint8]:
    """Pictures of the scenes, [N, size, size, 3] uint8 RGB. InputError below 8 pixels."""
    if size < 8:
        raise InputError(f"image size {size}: shapes cannot be drawn below 8 pixels; 64 is usual")
    images = np.empty((len(scenes), size, size, 3), np.uint8)
    if scenes:
        images[:] = np.array([BACKGROUNDS[s.background] for s in scenes], np.uint8)[:, None, None]
    for first in range(0, len(scenes), 64):  # few enough for the boxes to stay in the cache
        _draw(images[first : first + 64], scenes[first : first + 64], size)
    return images


def label_maps(scenes: Sequence[Scene], size: int) -> NDArray[np.uint8]:
    """Class of each pixel, [N, size, size] uint8: 0 is the background, then SHAPES in their order.

    A pixel belongs to the topmost thing that covers at least half of it.
    """
    maps = np.zeros((len(scenes), size, size), np.uint8)
    for n, scene in enumerate(scenes):
        for thing in scene.things:  # in order: later ones on top
            ((top, left, cover),) = _boxes(thing.shape, [thing], size)
            patch = maps[n, top : top + len(cover), left : left + len(cover)]
            patch[cover[..., 0] >= 0.5] = 1 + SHAPES.index(thing.shape)
    return maps


def _draw(images: NDArray[np.uint8], scenes: Sequence[Scene], size: int) -> None:
    placed = [(n, thing) for n, scene in enumerate(scenes) for thing in scene.things]
    groups: dict[tuple[str, str], list[int]] = {}
    for index, (_, thing) in enumerate(placed):  # things of one shape and size share one evaluation
        groups.setdefault((thing.shape, thing.size), []).append(index)
    boxes: list[tuple[int, int, Array]] = [None] * len(placed)  # type: ignore[list-item]
    for (shape, _), members in groups.items():
        things = [placed[index][1] for index in members]
        for index, box in zip(members, _boxes(shape, things, size), strict=True):
            boxes[index] = box
    for (n, thing), (top, left, cover) in zip(placed, boxes, strict=True):  # in order: later ones on top
        side = len(cover)
        patch = images[n, top : top + side, left : left + side]  # [B, B, 3]
        blend = cover * (np.array(COLORS[thing.color], np.float32) - patch)
        patch[...] = patch + blend + np.float32(0.5)  # rounds, as assignment to uint8 truncates


def _boxes(shape: str, things: Sequence[Thing], size: int) -> list[tuple[int, int, Array]]:
    """(top, left, coverage [B, B, 1]) of each thing, all of one shape."""
    xyr = np.array([(thing.x, thing.y, thing.radius) for thing in things], np.float32) * np.float32(size)
    side = min(int(np.ceil(2 * xyr[:, 2].max())) + 3, size)
    corner = np.clip(np.floor(xyr[:, :2] - side / 2 + 0.5), 0, size - side).astype(
        np.int64
    )  # [K, 2] left, top
    pixel = np.arange(side, dtype=np.float32) + np.float32(0.5)
    offset = pixel[None] - (xyr[:, :2] - corner).T.astype(np.float32)[:, :, None]  # [2, K, B]
    cover = coverage(shape, offset[0][:, None, :], offset[1][:, :, None], xyr[:, 2, None, None])
    tops, lefts = corner[:, 1].tolist(), corner[:, 0].tolist()
    return list(zip(tops, lefts, cover[..., None], strict=True))
