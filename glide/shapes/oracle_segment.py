"""Segment a picture into regions of one colour: the first half of the oracle.

Edges are the difficulty: a pixel half red and half white is pink. So colours are identified in flat parts of the
picture, and every other pixel joins the neighbouring flat region of the most similar colour.

Shape letters: H W pixels (always SIDE), K colours of the picture's palette.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from glide.shapes.scene import BACKGROUNDS, COLORS
from glide.utils.errors import InputError

Array = NDArray[Any]
Picture = NDArray[Any] | torch.Tensor

SIDE = 64  # every picture is read at this resolution
FLAT = 24.0  # levels by which the pixels of a flat 2 x 2 block may differ from their mean
SEAM_DISTANCE = 60.0  # a colour this close to a mixture of two others may be their seam
MIN_GROUND_DISTANCE = 60.0  # colours closer to the background are not searched
REACH = 3  # pixels from a flat region to the seams and corners that may belong to it
SPECK = 16  # pixels; smaller regions are dropped


@dataclass(frozen=True)
class Regions:
    """The regions of a picture.

    pixels: [H, W, 3] float32, 0..255.  labels: [H, W] index into `palette`; 0 is the background.
    ids: [H, W], one number per connected region.  palette: [K, 3], the colours in the picture.
    """

    pixels: Array
    labels: Array
    ids: Array
    palette: Array
    background: str | None


def find_regions(picture: Picture) -> Regions:
    """Segment a picture into regions of one colour without thin seams and specks. InputError: see to_pixels."""
    pixels = to_pixels(picture)
    background, ground = _background(pixels)
    colors = np.array(list(COLORS.values()), np.float32)
    far = np.linalg.norm(colors - ground, axis=1) >= MIN_GROUND_DISTANCE
    palette = np.concatenate([ground[None], colors[far]])  # [K, 3]
    distance = np.linalg.norm(pixels[None] - palette[:, None, None], axis=-1)  # [K, H, W]
    labels = _grow(np.where(_flat(pixels, distance.argmin(0)), distance.argmin(0), -1), distance)
    labels = _drop(labels, distance, palette, seams=True)
    labels = _drop(labels, distance, palette, seams=False)
    for k in np.unique(labels):  # the colours of the picture, not the nominal ones
        palette[k] = np.median(pixels[labels == k], axis=0)
    return Regions(pixels, labels, connected(labels), palette, background)


def to_pixels(picture: Picture) -> Array:
    """[SIDE, SIDE, 3] float32 in 0..255, from uint8 [H, W, 3] or a float tensor [3, H, W] in [-1, 1].

    InputError for any other shape or type, or a picture that is not square.
    """
    if isinstance(picture, torch.Tensor) and picture.is_floating_point() and picture.ndim == 3:
        image = (picture.detach().float().cpu().clamp(-1, 1) + 1) * 127.5  # [3, H, W]
    elif isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3:
        image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float()
    else:
        got = f"{getattr(picture, 'dtype', type(picture).__name__)} {list(getattr(picture, 'shape', []))}"
        raise InputError(
            f"the oracle got {got}: expected uint8 [H, W, 3] or a float tensor [3, H, W] in [-1, 1]"
        )
    channels, height, width = image.shape
    if channels != 3 or height != width or height < 16:
        raise InputError(
            f"the oracle got a picture {width}x{height} with {channels} channels: it reads square RGB"
        )
    if height > SIDE:
        image = torch.nn.functional.interpolate(image[None], size=SIDE, mode="area")[0]
    elif height < SIDE:
        image = torch.nn.functional.interpolate(image[None], size=SIDE, mode="bicubic")[0].clamp(0, 255)
    return image.permute(1, 2, 0).numpy()


def _background(pixels: Array) -> tuple[str | None, Array]:
    """Name (None if no background is close) and colour [3] of the picture's border."""
    inside = np.zeros(pixels.shape[:2], bool)
    inside[2:-2, 2:-2] = True
    border = pixels[~inside]
    grounds = np.array(list(BACKGROUNDS.values()), np.float32)
    nearest = np.linalg.norm(border[:, None] - grounds, axis=-1).argmin(1)
    winner = np.bincount(nearest, minlength=len(grounds)).argmax()
    color = np.median(border[nearest == winner], axis=0)
    near = np.linalg.norm(color - grounds[winner]) < 50  # less than half of the distance between any two
    return list(BACKGROUNDS)[winner] if near else None, color.astype(np.float32)


def _flat(pixels: Array, best: Array) -> Array:
    """[H, W] bool: true in 2 x 2 blocks of similar pixels that are nearest to the same palette colour."""
    corners = [np.s_[:-1, :-1], np.s_[:-1, 1:], np.s_[1:, :-1], np.s_[1:, 1:]]
    four = np.stack([pixels[c] for c in corners])  # [4, H-1, W-1, 3]
    similar = np.linalg.norm(four - four.mean(0), axis=-1).max(0) < FLAT
    names = np.stack([best[c] for c in corners])
    similar &= (names == names[0]).all(0)
    flat = np.zeros(best.shape, bool)
    for c in corners:
        flat[c] |= similar
    return flat


def _grow(labels: Array, distance: Array) -> Array:
    """Give each pixel labelled -1 the most similar one of the labels nearby."""
    labels = labels.copy()
    cost = np.full(distance.shape, np.inf, np.float32)
    for k in np.unique(labels[labels >= 0]):
        reached = labels == k
        for _ in range(REACH):
            reached = grown(reached)
        cost[k][reached] = distance[k][reached]
    cost = np.where(np.isfinite(cost.min(0)), cost, distance)  # far from any flat place: all colours
    return np.where(labels < 0, cost.argmin(0), labels)


def _drop(labels: Array, distance: Array, palette: Array, seams: bool) -> Array:
    """Merge seams, or specks, into their neighbours."""
    ids = connected(labels)
    area = np.bincount(ids.ravel())
    if seams:
        wide = np.pad(ids, 1, mode="edge")
        around = np.lib.stride_tricks.sliding_window_view(wide, (3, 3))  # [H, W, 3, 3]
        inner = np.bincount(ids[(around == ids[..., None, None]).all((2, 3))], minlength=len(area))
        thin = np.nonzero((area > 0) & (inner <= 0.1 * area))[0]
        numbers = [number for number in thin if _is_seam(ids == number, labels, palette)]
    else:
        numbers = list(np.nonzero((area > 0) & (area < SPECK))[0])
    drop = np.isin(ids, numbers)
    distance = np.where(drop & (labels == np.arange(len(palette))[:, None, None]), np.inf, distance)
    return _grow(np.where(drop, -1, labels), distance)


def _is_seam(region: Array, labels: Array, palette: Array) -> bool:
    """True for a thin region that lies between two others and has a mixture of their colours."""
    beside = labels[grown(region) & ~region]
    counts = np.bincount(beside, minlength=len(palette)) / max(len(beside), 1)
    second, first = counts.argsort(kind="stable")[-2:]
    if counts[second] < 0.25:
        return False
    color, a, b = palette[labels[region][0]], palette[first], palette[second]
    share = np.clip((color - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return bool(np.linalg.norm(a + share * (b - a) - color) < SEAM_DISTANCE)


def grown(mask: Array) -> Array:
    """The mask and the eight neighbours of each of its pixels."""
    wide = np.pad(mask, 1)
    rows = wide[:-2] | wide[1:-1] | wide[2:]
    return rows[:, :-2] | rows[:, 1:-1] | rows[:, 2:]


def shrunk(mask: Array) -> Array:
    """The pixels whose eight neighbours are in the mask."""
    return ~grown(~mask)


def connected(labels: Array, diagonal: bool = True) -> Array:
    """[H, W] int: pixels of equal label that touch (also by corners where `diagonal`) get the same number."""
    height, width = labels.shape
    ids = np.arange(height * width).reshape(height, width)
    steps = [(0, 1), (1, 0)] + ([(1, 1), (1, -1)] if diagonal else [])
    pairs = []
    for dy, dx in steps:
        here = np.s_[: height - dy, max(-dx, 0) : width - max(dx, 0)]
        there = np.s_[dy:, max(dx, 0) : width + min(dx, 0)]
        same = labels[here] == labels[there]
        pairs.append((ids[here][same], ids[there][same]))
    a, b = (np.concatenate(side) for side in zip(*pairs, strict=True))
    parent = ids.ravel().copy()
    while True:  # the smallest number of a region spreads, and each pixel jumps to its parent's parent
        low = np.minimum(parent[a], parent[b])
        before = parent.copy()
        np.minimum.at(parent, parent[a], low)
        np.minimum.at(parent, parent[b], low)
        parent = parent[parent]
        if (parent == before).all():
            return parent.reshape(height, width)


def filled(mask: Array) -> Array:
    """The mask and everything that it encloses."""
    ids = connected(np.pad(mask, 1), diagonal=False)
    return (ids != ids[0, 0])[1:-1, 1:-1]
