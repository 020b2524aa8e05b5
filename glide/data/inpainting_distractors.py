"""Inpainting distractors: training scenes with a second thing that the caption does not mention.

A caption of the data set describes everything in the picture, whereas a prompt for inpainting describes only the masked
part. So a distractor is added to a scene of one thing, and the mask covers the first thing and leaves the distractor.
A pure function of its random numbers. Lengths are shares of the picture's side, as in `glide.shapes.scene`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glide.data.masks import Unknown
from glide.shapes.dataset import GAP, MARGIN, VISIBLE_COLORS
from glide.shapes.scene import SHAPES, SIZES, Scene, Thing

TRIES = 20


def add_distractor(rng: np.random.Generator, scene: Scene) -> Scene | None:
    """A scene of one thing with a distractor beside it; None if no room was found.

    Its caption and its facts stay those of the first thing.
    """
    (thing,) = scene.things
    colors = [name for name in VISIBLE_COLORS[scene.background] if name != thing.color]
    shape, color = SHAPES[rng.integers(len(SHAPES))], colors[rng.integers(len(colors))]
    for _ in range(TRIES):
        size = list(SIZES)[rng.integers(len(SIZES))]
        radius = float(rng.uniform(*SIZES[size]))
        x, y = rng.uniform(radius + MARGIN, 1 - radius - MARGIN, 2).tolist()
        apart = max(abs(x - thing.x), abs(y - thing.y))
        if apart >= thing.radius + radius + GAP:
            return replace(scene, things=(thing, Thing(shape, color, size, x, y, radius)))
    return None


def mask_around_first(rng: np.random.Generator, scene: Scene, size: int) -> Unknown:
    """A random box around the first thing of two that does not reach the second; [H,W], H = W = size.

    One time in three it extends to the picture's edges, except towards the other thing.
    """
    first, other = scene.things
    box = [[first.x - first.radius, first.x + first.radius], [first.y - first.radius, first.y + first.radius]]
    reach = np.ones((2, 2)) if rng.random() < 1 / 3 else rng.random((2, 2))
    for axis in range(2):
        low, high = box[axis]
        box[axis] = [low - reach[axis, 0] * low, high + reach[axis, 1] * (1 - high)]
    gaps = []  # room between the two along x and y, and the side of the other one
    for near, far, both in (
        (first.x, other.x, first.radius + other.radius),
        (first.y, other.y, first.radius + other.radius),
    ):
        gaps.append((abs(far - near) - both, far > near))
    axis = int(gaps[1][0] > gaps[0][0])  # the axis along which they are further apart
    room, after = gaps[axis]
    centre = (first.x, first.y)[axis]
    stop = centre + (1 if after else -1) * (first.radius + room * float(rng.uniform(0.3, 0.8)))
    if after:
        box[axis][1] = min(box[axis][1], stop)
    else:
        box[axis][0] = max(box[axis][0], stop)
    unknown = np.zeros((size, size), bool)
    (left, right), (top, bottom) = (
        (int(np.floor(low * size)), int(np.ceil(high * size))) for low, high in box
    )
    unknown[max(top, 0) : bottom, max(left, 0) : right] = True
    return unknown
