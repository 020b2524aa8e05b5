"""The square of a picture that a model is shown and paints on, and the way back into the picture.

Shape letters: H W pixels of the picture, S side of the square, s side of the model's pictures, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from glide.utils.fill import filled_in

Bytes = NDArray[np.uint8]  # [H,W,C]
Unknown = NDArray[np.bool_]  # [H,W], true where a pixel is to be painted

LEFT_WHOLE = 0.25  # share of a mask that blending at its border leaves in full strength, at least


@dataclass(frozen=True)
class Region:
    """A square of the picture; it may reach beyond it."""

    top: int
    left: int
    side: int

    def cut(self, array: NDArray[Any], beyond: Any, rows: slice = slice(None)) -> NDArray[Any]:
        """[H,W,...] -> the square [S,S,...], or some rows of it; `beyond` stands where there is no picture."""
        first, end, _ = rows.indices(self.side)
        found = np.full((end - first, self.side, *array.shape[2:]), beyond, array.dtype)
        (there_y, there_x), (here_y, here_x) = self.overlap(array.shape[0], array.shape[1])
        top, bottom = max(here_y.start, first), min(here_y.stop, end)
        if top < bottom:
            away = there_y.start - here_y.start
            found[top - first : bottom - first, here_x] = array[top + away : bottom + away, there_x]
        return found

    def overlap(self, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The overlap of the square and a picture: as part of the picture, and of the square."""
        ends = ((self.top, height), (self.left, width))
        there = [slice(max(start, 0), min(start + self.side, length)) for start, length in ends]
        here = [slice(s.start - start, s.stop - start) for s, (start, _) in zip(there, ends, strict=True)]
        return (there[0], there[1]), (here[0], here[1])


def region_around(unknown: Unknown, least: int, context: float) -> Region:
    """The square that is repainted: `context` times as long as what is masked, around its middle.

    It is not smaller than `least`, the model's own pixels, which it could only be shown enlarged, and stays within the
    picture, unless what is masked is longer than the picture's short side.
    """
    (top, bottom), (left, right) = _ends(unknown, 1), _ends(unknown, 0)
    height, width = unknown.shape
    longest = max(bottom - top, right - left)
    wanted = max(context * longest, least)
    side = max(longest, math.ceil(min(wanted, min(height, width))))
    return Region(_start(top, bottom, side, height), _start(left, right, side, width), side)


def _ends(unknown: Unknown, along: int) -> tuple[int, int]:
    """Between which rows (along 1) or columns (along 0) all of the mask lies."""
    places = np.flatnonzero(unknown.any(along))
    return int(places[0]), int(places[-1]) + 1


def _start(first: int, last: int, side: int, length: int) -> int:
    """The start of a stretch of length `side` centred on first..last, within 0..length if it fits."""
    if side >= length:
        return (length - side) // 2
    return min(max((first + last - side) // 2, 0), length - side)


def shown(region: Region, rgb: Bytes, unknown: Unknown, size: int) -> tuple[Tensor, Tensor]:
    """The model's inputs: image [3,s,s] in [-1, 1], and the mask of its known pixels [1,s,s].

    A pixel of the model's is known only where all pixels are known of which it is made, so nothing that is painted
    over shines through. Pixels beyond the picture are unknown.
    """
    if region.side <= size:
        return _shown_rows(region, rgb, unknown, slice(0, region.side), (size, size))
    # row by row: a square around a long strip has many more pixels than the picture
    windows = [_window(i, region.side, size) for i in range(size)]
    down, across = (
        [-start <= window.start and window.stop <= length - start for window in windows]
        for start, length in zip((region.top, region.left), unknown.shape, strict=True)
    )
    image, known = torch.zeros(3, size, size), torch.zeros(1, size, size)
    for i, rows in enumerate(windows):
        if down[i] and any(across):  # else a part of each pixel lies beyond the picture
            image[:, i : i + 1], known[:, i : i + 1] = _shown_rows(region, rgb, unknown, rows, (1, size))
    return image, known


def _shown_rows(
    region: Region, rgb: Bytes, unknown: Unknown, rows: slice, shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """`shown` of some rows of the square, scaled to `shape`."""
    missing = torch.from_numpy(region.cut(unknown, True, rows)).float()[None, None]  # [1,1,n,S]
    image = _tensor(region.cut(rgb, 0, rows)) * (1 - missing)
    known = (_scaled(missing, shape) == 0).float()
    return (_scaled(image, shape) * known)[0], known[0]


def _window(i: int, side: int, size: int) -> slice:
    """The rows of `side` of which row i of `size` is the average, as adaptive pooling has them."""
    return slice(i * side // size, -(-(i + 1) * side // size))


def _tensor(pixels: Bytes) -> Tensor:
    """uint8 [H,W,3] -> [1,3,H,W] in [-1, 1]."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous().float()[None] / 127.5 - 1


def _scaled(x: Tensor, shape: tuple[int, int]) -> Tensor:
    """[1,C,n,S] -> [1,C,*shape]: averages on the way down, linear in between on the way up; no negative weights."""
    if x.shape[-2:] == shape:
        return x
    if x.shape[-1] > shape[1]:
        return F.adaptive_avg_pool2d(x, shape)
    return F.interpolate(x, shape, mode="bilinear", align_corners=False)


def default_feather(region: Region, size: int) -> int:
    """The default width of the blended border: one pixel of the model's, where that is larger than one of the
    picture's.
    """
    return round(region.side / size) if region.side > size else 0


def pasted(original: Bytes, unknown: Unknown, region: Region, painted: Tensor, feather: int) -> Bytes:
    """The picture uint8 [H,W,3] with what was painted, [3,s,s] in [-1, 1], inside the mask and nowhere else.

    Along the border, `feather` pixels wide, it goes over into the colours around the mask, carried on inwards: not
    into what was there before, which is gone.
    """
    there, here = region.overlap(*unknown.shape)
    inside = unknown[there].copy()
    seen = _enlarged(painted.float().cpu()[None], region.side, here)  # [1,3,h,w], what lies in the picture
    if feather:
        known = 1 - torch.from_numpy(inside).float()[None, None]  # [1,1,h,w]
        around = filled_in(_tensor(original[there].copy()), known)
        share = torch.from_numpy(softened(unknown, feather)[there])  # [h,w] of what was painted
        seen = seen * share + around * (1 - share)
    pixels = ((seen[0] + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    result = original.copy()
    result[there][inside] = pixels[inside]
    return result


def _enlarged(x: Tensor, side: int, here: tuple[slice, slice]) -> Tensor:
    """[1,C,s,s] scaled to [1,C,side,side], bicubic, of which only the part `here` is made where it is not all."""
    small = x.shape[-1]
    if small == side:
        return x[..., here[0], here[1]]
    if small > side or all(part.stop - part.start == side for part in here):
        return F.interpolate(x, (side, side), mode="bicubic", align_corners=False, antialias=True)[
            ..., here[0], here[1]
        ]
    for dim, part in ((-1, here[1]), (-2, here[0])):
        places, weights = _cubic(part, side, small)
        terms = [
            x.index_select(dim, at) * (weight if dim == -1 else weight[:, None])
            for at, weight in zip(places, weights, strict=True)
        ]
        x = terms[0] + terms[1] + terms[2] + terms[3]
    return x


def _cubic(part: slice, side: int, small: int) -> tuple[Tensor, Tensor]:
    """Bicubic interpolation (a = -0.5) from `small` places to a part of `side`: which four and their weights, [4,n]."""
    centre = (torch.arange(part.start, part.stop, dtype=torch.float64) + 0.5) * (small / side)
    places = (centre - 1.5).floor().to(torch.int64) + torch.arange(4)[:, None]
    away = (places + 0.5 - centre).abs()
    near, far = (1.5 * away - 2.5) * away**2 + 1, ((-0.5 * away + 2.5) * away - 4) * away + 2
    weights = torch.where(away <= 1, near, torch.where(away < 2, far, 0)) * ((places >= 0) & (places < small))
    return places.clamp(0, small - 1), (weights / weights.sum(0)).float()


def softened(unknown: Unknown, feather: int) -> NDArray[np.float32]:
    """[H,W] from 0 outside the mask to 1 inside it, rising over `feather` pixels from its border inwards.

    Over fewer where a quarter of the mask would not be reached. The picture's own edge is no border.
    """
    (top, bottom), (left, right) = _ends(unknown, 1), _ends(unknown, 0)
    reach = feather + 1
    window = (
        slice(max(top - reach, 0), bottom + reach),
        slice(max(left - reach, 0), right + reach),
    )
    inner = torch.from_numpy(unknown[window].astype(np.float32))[None, None]
    k = feather // 2
    while k and float(_shrunk(inner, 2 * k).sum()) < LEFT_WHOLE * float(inner.sum()):
        k //= 2
    share = np.zeros(unknown.shape, np.float32)
    share[window] = (_blurred(_shrunk(inner, k), k) * inner)[0, 0].numpy()
    return share


def _shrunk(mask: Tensor, k: int) -> Tensor:
    """[1,1,H,W] without what is within k pixels of a border."""
    hole = F.max_pool2d(1 - mask, (2 * k + 1, 1), 1, (k, 0))
    return 1 - F.max_pool2d(hole, (1, 2 * k + 1), 1, (0, k))


def _blurred(mask: Tensor, k: int) -> Tensor:
    """Averages of (2k+1)x(2k+1) pixels, of those that there are."""
    mask = F.avg_pool2d(mask, (2 * k + 1, 1), 1, (k, 0), count_include_pad=False)
    return F.avg_pool2d(mask, (1, 2 * k + 1), 1, (0, k), count_include_pad=False)
