"""Fit the eight shapes to a region by drawing each of them there: the second half of the oracle."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from glide.shapes.oracle_segment import Array
from glide.shapes.render import coverage
from glide.shapes.scene import SHAPES


@dataclass(frozen=True)
class Fit:
    """A drawn shape that resembles a region. x, y, radius in pixels; overlap (soft IoU) 1 is perfect."""

    shape: str
    x: float
    y: float
    radius: float
    overlap: float


def fit_shape(cover: Array, weight: Array, mask: Array) -> Fit:
    """The shape of SHAPES that overlaps most with a region.

    cover: [H, W] share of each pixel that the region covers, 0..1.  weight: [H, W], 0 for pixels that
    another thing hides.  mask: [H, W] bool, the region's pixels.
    """
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    window = np.s_[max(top - 3, 0) : bottom + 3, max(left - 3, 0) : right + 3]
    grid: Array = np.indices(mask.shape, np.float32) + np.float32(0.5)
    y, x = (axis[window] for axis in grid)
    box = ((left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2)
    fits = [_fit(shape, cover[window], weight[window], x, y, box) for shape in SHAPES]
    return max(fits, key=lambda fit: fit.overlap)


def _fit(
    shape: str, cover: Array, weight: Array, x: Array, y: Array, box: tuple[float, float, float, float]
) -> Fit:
    """Least squares over centre and radius by a few Gauss-Newton steps from the region's box."""
    center_x, center_y, half_width, half_height = _box(shape)
    radius = (box[2] / half_width + box[3] / half_height) / 2
    place = np.array([box[0] - center_x * radius, box[1] - center_y * radius, radius])
    offsets = np.concatenate([np.zeros((1, 3)), 0.5 * np.eye(3)])  # pixels

    def draw(places: Array) -> Array:  # [M, 3] -> [M, H, W]
        cx, cy, r = places.astype(np.float32).T[:, :, None, None]
        return coverage(shape, x - cx, y - cy, r)

    for _ in range(4):
        drawn = draw(place + offsets)
        slopes = ((drawn[1:] - drawn[0]) / 0.5).reshape(3, -1)
        weighted = slopes * weight.ravel()
        step = np.linalg.solve(weighted @ slopes.T + 0.1 * np.eye(3), weighted @ (cover - drawn[0]).ravel())
        place = place + np.clip(step, -1.5, 1.5)
        place[2] = max(place[2], 2.0)
    drawn = draw(place[None])[0]
    overlap = (weight * np.minimum(drawn, cover)).sum() / max((weight * np.maximum(drawn, cover)).sum(), 1e-6)
    return Fit(shape, float(place[0]), float(place[1]), float(place[2]), float(overlap))


@cache
def _box(shape: str) -> tuple[float, float, float, float]:
    """Centre x, y and half width, height of the bounding box of a shape of radius 1."""
    axis = (np.arange(400, dtype=np.float32) - 199.5) / 160
    ink = coverage(shape, axis[None] * 160, axis[:, None] * 160, np.full((1, 1), 160, np.float32)) >= 0.5
    columns, rows = axis[ink.any(0)], axis[ink.any(1)]
    x, y = (columns[0] + columns[-1]) / 2, (rows[0] + rows[-1]) / 2
    return float(x), float(y), float(columns[-1] - x), float(rows[-1] - y)
