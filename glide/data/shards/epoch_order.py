"""The random order of an epoch over shards: well mixed, yet read almost in stored order.

An order is a pure function of (seed, epoch), and the picture at a place is found without visiting those before it. So a
run resumes in the middle of an epoch without saved state, and any number of processes sees the same global batches. A
shuffle buffer, as webdataset's, has neither property: its contents depend on everything read before.

Three levels, from coarse to fine. The shards come in a random order. In each group of MIXED_SHARDS shards, blocks of
BLOCK consecutive pictures are shuffled. Each WINDOW of that sequence is shuffled within LANES: place p of a window
takes from lane p mod LANES, which holds a contiguous part of the sequence. So a batch has pictures from the whole
window, while its rows are ordered by lanes (`order_by_lane`), so that a process, whose rows are one part of each batch
(`glide.training.distributed`), reads its share of the lanes and nothing of the others.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

BLOCK = 64  # pictures read at once: about 2 MB of 256x256 JPEGs
MIXED_SHARDS = 16
WINDOW = 8192
LANES = 16
ORDER_SALT = 0x0DE5  # separates these random numbers from all others of the same (seed, epoch)
CACHED_WINDOWS = 4  # batches are prefetched, by several threads


class EpochOrder:
    """`order[place]` is the index of the picture at a place of the epoch, 0 to `sum(counts)` - 1.

    counts: pictures in each shard; index i is the i-th picture over all shards in their given order.
    """

    def __init__(
        self,
        counts: Sequence[int],
        seed: int,
        epoch: int,
        block: int = BLOCK,
        mixed: int = MIXED_SHARDS,
        window: int = WINDOW,
        lanes: int = LANES,
    ) -> None:
        assert window % lanes == 0, "the first place of a window must belong to lane 0"
        self.seed, self.epoch, self.window, self.lanes = seed, epoch, window, lanes
        self.first, self.ends = _blocks(counts, _generator(seed, epoch), block, mixed)
        self._windows: dict[int, NDArray[np.int64]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, place: int) -> int:
        number, inside = divmod(place, self.window)
        with self._lock:
            if number not in self._windows:
                while len(self._windows) >= CACHED_WINDOWS:
                    del self._windows[next(iter(self._windows))]
                self._windows[number] = self._shuffled(number)
            return int(self._windows[number][inside])

    def _shuffled(self, number: int) -> NDArray[np.int64]:
        """The indices at the places of one window."""
        places = np.arange(number * self.window, min((number + 1) * self.window, len(self)))
        block = np.searchsorted(self.ends, places, side="right")
        # places of the sequence of blocks -> indices
        begins = np.concatenate([[0], self.ends[:-1]])
        sequence = self.first[block] + places - begins[block]
        rng = _generator(self.seed, self.epoch, number)
        shuffled = np.empty_like(sequence)
        begin = 0
        for lane in range(min(self.lanes, len(sequence))):
            size = len(range(lane, len(sequence), self.lanes))
            shuffled[lane :: self.lanes] = rng.permutation(sequence[begin : begin + size])
            begin += size
        return shuffled


def order_by_lane(places: range, length: int, lanes: int) -> Sequence[int]:
    """The places of a batch in the order of its rows; places continue through epochs of `length` pictures.

    Lanes are ordered by their numbers' reversed bits: even ones, then odd ones, and so on within each. So each half
    (quarter, eighth, ...) of a batch that can be divided so has lanes with equal last bits, and the other parts have
    none of these, for any batch size. lanes: a power of two.
    """
    if lanes == 1:
        return places
    bits = lanes.bit_length() - 1
    rank = [int(f"{lane:0{bits}b}"[::-1], 2) for lane in range(lanes)]
    return sorted(places, key=lambda place: (place // length, rank[place % length % lanes]))


def _blocks(
    counts: Sequence[int], rng: np.random.Generator, block: int, mixed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The sequence of blocks of an epoch: the first index of each, and the number of pictures up to its end."""
    offsets = np.concatenate([[0], np.cumsum(np.asarray(counts, np.int64))])
    shards = rng.permutation(len(counts))
    firsts, sizes = [], []
    for group in np.split(shards, range(mixed, len(shards), mixed)):
        starts = [np.arange(offsets[s], offsets[s + 1], block) for s in group]
        lengths = [
            np.minimum(block, offsets[s + 1] - begins) for s, begins in zip(group, starts, strict=True)
        ]
        order = rng.permutation(sum(map(len, starts)))
        firsts.append(np.concatenate(starts)[order])
        sizes.append(np.concatenate(lengths)[order])
    return np.concatenate(firsts), np.cumsum(np.concatenate(sizes))


def _generator(seed: int, epoch: int, *window: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(ORDER_SALT, epoch, *window)))
