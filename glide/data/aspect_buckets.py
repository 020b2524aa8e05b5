"""Aspect buckets: pictures of all shapes, each learned at the nearest of a few sizes of about the same area.

A batch holds pictures of one bucket. Which bucket a step has is a pure function of (seed, step): in every BLOCK of
steps each bucket comes as often as its share of the pictures says, in random order. In a bucket pictures come in
epochs.

Sizes are (H, W). Shape letters: N pictures, K buckets.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glide.data.conditions import Stored
from glide.utils.errors import InputError
from glide.utils.image_files import shown_size
from glide.utils.picture_size import Size, size_text
from glide.utils.progress import progress
from glide.utils.resize import crop_box

MOST = 2.0
"""Largest ratio of two sides of a bucket."""
AREA = 1.15
"""Times that the area of a bucket may differ from the square's."""
CELLS = 8
"""Steps of a side from 0 to the square's, at most: more would only split the pictures among more buckets."""
BLOCK = 1024
SALT = 0xA5BEC7  # separates these random numbers from all others of the same seed
READERS = 8


def bucket_sizes(side: int, multiple: int) -> tuple[Size, ...]:
    """The square of `side` pixels, then sizes of about its area whose sides are multiples of a number.

    Of two of the same shape there is one. InputError for a side that is no multiple itself.
    """
    if side % multiple:
        raise InputError(
            f"got buckets around {side}x{side}, expected a multiple of {multiple}: change the size"
        )
    step = multiple * math.ceil(side / multiple / CELLS)
    found: dict[float, Size] = {1.0: (side, side)}
    for long in range(side + step, math.floor(side * math.sqrt(MOST * AREA)) + 1, step):
        exact = side**2 / long
        for short in {math.floor(exact / step) * step, math.ceil(exact / step) * step}:
            near = short and max(short / exact, exact / short) <= AREA
            if near and short < long <= MOST * short:
                found.setdefault(long / short, (short, long))
                found.setdefault(short / long, (long, short))
    square, *others = found.values()
    return (square, *sorted(others))


def read_sizes(source: Stored) -> NDArray[np.int64]:
    """Height and width of each picture, by the headers of all files: [N,2]; zeros for a broken one."""

    def size(index: int) -> Size:
        try:
            return shown_size(source.read(index), source.name(index))
        except InputError:  # it is met again, and counted, when it is decoded
            return 0, 0

    with ThreadPoolExecutor(READERS) as pool:
        shapes = pool.map(size, range(len(source)))
        read = progress(shapes, total=len(source), desc="reading sizes", unit="picture", leave=False)
        return np.array(list(read), np.int64).reshape(-1, 2)


def nearest(sizes: Sequence[Size], shapes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The size whose ratio of sides is nearest to that of each shape [N,2], by its place in `sizes`: [N]."""
    ratios = np.log([height / width for height, width in sizes])  # [K]
    own = np.log(shapes[:, 0].clip(1) / shapes[:, 1].clip(1))  # [N]
    return np.abs(own[:, None] - ratios).argmin(axis=1)


@dataclass(frozen=True, eq=False)
class Buckets:
    """The buckets of a data set's pictures."""

    sizes: tuple[Size, ...]
    """The default first."""
    of: NDArray[np.int64]  # [N] the bucket of each picture
    shapes: NDArray[np.int64]  # [N,2] heights and widths of the pictures; zeros for broken ones

    @classmethod
    def of_source(cls, source: Stored, sizes: Sequence[Size], least: int = 1) -> Buckets:
        """Read the shapes of all pictures, and put each into its bucket, as `of_shapes`."""
        return cls.of_shapes(read_sizes(source), sizes, least)

    @classmethod
    def of_shapes(cls, shapes: NDArray[np.int64], sizes: Sequence[Size], least: int = 1) -> Buckets:
        """Put each picture, by its height and width [N,2], into its bucket.

        least: a size with fewer pictures is left out, and its pictures belong to the nearest of the others. The first
        of `sizes` stays the first, if it has enough; after it come those with most pictures.
        """
        counts = np.bincount(nearest(sizes, shapes), minlength=len(sizes))
        kept = [place for place in range(len(sizes)) if counts[place] >= least] or [int(counts.argmax())]
        kept.sort(key=lambda place: (place != 0, -counts[place], place))
        chosen = tuple(sizes[place] for place in kept)
        return cls(chosen, nearest(chosen, shapes), shapes)

    @cached_property
    def counts(self) -> list[int]:
        """Pictures of each bucket, [K]."""
        return np.bincount(self.of, minlength=len(self.sizes)).tolist()

    def cropped(self, bucket: int) -> float:
        """Mean share of a bucket's pictures that is cropped away."""
        shares = [
            cropped_share(shape, self.sizes[bucket]) for shape in self.shapes[self.of == bucket].tolist()
        ]
        return float(np.mean(shares)) if shares else 0.0

    @property
    def cropped_in_all(self) -> float:
        """Mean share of a picture that is cropped away."""
        pairs = zip(self.shapes.tolist(), self.of.tolist(), strict=True)
        return float(np.mean([cropped_share(shape, self.sizes[bucket]) for shape, bucket in pairs] or [0.0]))

    def report(self) -> str:
        """A line for each bucket, and one for all, beside square crops."""
        lines = [f"{len(self.sizes)} aspect buckets, width x height:"]
        for bucket, (size, count) in enumerate(zip(self.sizes, self.counts, strict=True)):
            share = self.cropped(bucket)
            lines.append(f"  {size_text(size):>9} {count:8} pictures, {share:6.1%} of each cropped away")
        squares = np.mean([cropped_share(shape, (1, 1)) for shape in self.shapes.tolist()] or [0.0])
        last = f"cropped away of a picture: {self.cropped_in_all:.1%} (by square crops {squares:.1%})"
        return "\n".join([*lines, last])

    def members(self, bucket: int, order: NDArray[np.int64]) -> NDArray[np.int64]:
        """The pictures of a bucket in the order of an epoch of all pictures [N]."""
        return order[self.of[order] == bucket]


def cropped_share(shape: Sequence[int], size: Size) -> float:
    """Share of a picture (H, W) that is cropped away before it is scaled to a size; 0 for a broken one."""
    height, width = shape
    if not height * width:
        return 0.0
    left, top, right, bottom = crop_box((height, width), size)
    return 1 - (right - left) * (bottom - top) / (height * width)


class BucketSchedule:
    """The bucket of each step, a pure function of (seed, step). Thread-safe."""

    def __init__(self, counts: Sequence[int], seed: int) -> None:
        """counts: pictures of each bucket, [K]."""
        self.seed, self.ends = seed, np.cumsum(counts) / max(sum(counts), 1)
        self._before = [np.zeros(len(counts), np.int64)]  # visits of each bucket before a block
        self._last: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))
        self._lock = threading.Lock()

    def at(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and the number of earlier steps that had it."""
        block, inside = divmod(step, BLOCK)
        with self._lock:
            while len(self._before) <= block:
                visits = np.bincount(self._block(len(self._before) - 1), minlength=len(self.ends))
                self._before.append(self._before[-1] + visits)
            if self._last[0] != block:
                self._last = (block, self._block(block))
            buckets = self._last[1]
            bucket = int(buckets[inside])
            return bucket, int(self._before[block][bucket] + np.count_nonzero(buckets[:inside] == bucket))

    def _block(self, block: int) -> NDArray[np.int64]:
        """The buckets of BLOCK steps: one point in each of as many equal parts of [0, 1], in random order."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(SALT, block)))
        points = (rng.permutation(BLOCK) + rng.random(BLOCK)) / BLOCK
        return np.searchsorted(self.ends[:-1], points, side="right").astype(np.int64)
