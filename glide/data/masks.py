"""Random inpainting masks (GLIDE, 2112.10741, section 2.4): rectangles, strokes and missing sides (outpainting).

A mask is a pure function of (seed, step, index). Shape letters: N pictures, H W pixels, P points of a stroke.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from glide.data.mask_defaults import EVERYTHING
from glide.utils.errors import InputError

Unknown = NDArray[np.bool_]  # [H,W], true where a pixel is to be filled

MASKS_SALT = 0x3A5C  # separates these random numbers from those of the data of the same (seed, step)
SIDES = (0.2, 0.75)  # of a rectangle, as shares of the picture's
WIDTHS = (0.06, 0.25)  # of a stroke
BANDS = (0.15, 0.7)  # of a missing side


def random_masks(
    seed: int, step: int, examples: int | range, size: tuple[int, int], everything: float = EVERYTHING
) -> Tensor:
    """Masks of examples of a training step, float32 [N,1,H,W]: 1 known, 0 to be filled.

    examples: the number of the first ones, or their range. size: (H, W). everything: share of examples without known
    pixels, so that the model still learns to draw from captions alone; a third each of the others has rectangles,
    strokes, or missing sides. The mask of example i does not depend on their number. InputError for a share out of
    range.
    """
    if not 0.0 <= everything <= 1.0:
        raise InputError(f"got the share {everything} of pictures without a known pixel, expected 0 to 1")
    wanted = range(examples) if isinstance(examples, int) else examples
    masks = np.empty((len(wanted), 1, *size), np.float32)
    for place, index in enumerate(wanted):
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(MASKS_SALT, step, index)))
        masks[place, 0] = ~random_unknown(rng, size, everything)
    return torch.from_numpy(masks)


def random_unknown(rng: np.random.Generator, size: tuple[int, int], everything: float) -> Unknown:
    """One mask, true where a pixel is to be filled: always at least one."""
    if rng.random() < everything:
        return np.ones(size, bool)
    kind = (rectangles, strokes, missing_sides)[rng.integers(3)]
    unknown = kind(rng, size)
    return unknown if unknown.any() else np.ones(size, bool)


def rectangles(rng: np.random.Generator, size: tuple[int, int]) -> Unknown:
    """One to three rectangles; half of the time the first one lies in a corner."""
    unknown = np.zeros(size, bool)
    for number in range(int(rng.choice([1, 1, 2, 3]))):
        lengths = np.maximum(1, np.round(rng.uniform(*SIDES, 2) * size)).astype(int)  # height, width
        room = np.array(size) - lengths
        corner = number == 0 and rng.random() < 0.5
        top, left = rng.integers(2, size=2) * room if corner else rng.integers(room + 1)
        unknown[top : top + lengths[0], left : left + lengths[1]] = True
    return unknown


def strokes(rng: np.random.Generator, size: tuple[int, int]) -> Unknown:
    """One to four strokes of a brush that changes its direction at a few points."""
    unknown = np.zeros(size, bool)
    scale = max(size)
    for _ in range(int(rng.integers(1, 5))):
        steps = rng.uniform(0.1, 0.35, int(rng.integers(2, 6))) * scale  # lengths of the straight parts
        turns = np.cumsum([rng.uniform(0, 2 * np.pi), *rng.uniform(-1.5, 1.5, len(steps) - 1)])
        moves = steps[:, None] * np.stack([np.sin(turns), np.cos(turns)], axis=1)  # [P-1,2] down, right
        points = rng.uniform(0, 1, 2) * size + np.concatenate([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
        unknown |= stroke(points, float(rng.uniform(*WIDTHS)) * scale, size)
    return unknown


def stroke(points: NDArray[np.float64], width: float, size: tuple[int, int]) -> Unknown:
    """The pixels that a round brush covers along points [P,2] (down, right), in pixels."""
    y, x = np.arange(size[0])[:, None] + 0.5, np.arange(size[1])[None] + 0.5  # [H,1], [1,W]
    covered = np.zeros(size, bool)
    for start, end in pairwise(points):
        dy, dx = end - start
        length = max(dy * dy + dx * dx, 1e-12)
        along = np.clip(((y - start[0]) * dy + (x - start[1]) * dx) / length, 0, 1)  # [H,W] nearest point
        from_line = np.hypot(y - start[0] - along * dy, x - start[1] - along * dx)
        covered |= from_line <= width / 2
    return covered


def missing_sides(rng: np.random.Generator, size: tuple[int, int]) -> Unknown:
    """Outpainting: a band is missing at one to four sides of the picture."""
    unknown = np.ones(size, bool)
    at = rng.permutation(4)[: rng.choice([1, 1, 2, 2, 3, 4])]  # top, bottom, left, right
    shares = np.zeros(4)
    shares[at] = rng.uniform(*BANDS, len(at))
    for low, high in ((0, 1), (2, 3)):  # keep something between two opposite bands
        shares[[low, high]] *= min(1.0, 0.8 / max(shares[low] + shares[high], 1e-12))
    top, bottom, left, right = np.round(shares * np.repeat(size, 2)).astype(int)
    unknown[top : size[0] - bottom, left : size[1] - right] = False
    return unknown
