"""Batches of stored pictures, from folders or shards. A batch is a pure function of (seed, step, size).

N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from glide.data.aspect_buckets import Buckets, BucketSchedule
from glide.data.buffer_pool import BufferPool
from glide.data.conditions import StoredCondition
from glide.data.shards.epoch_order import order_by_lane
from glide.utils.channels import check_channels, in_mode
from glide.utils.errors import InputError
from glide.utils.image_files import decode_picture
from glide.utils.picture_size import Size, size_text
from glide.utils.printable import few
from glide.utils.resize import cropped_picture

MIN_CROP = 0.8  # smallest side of a random crop, as a share of the short side: ADM's
DRAFT_SCALE = (
    2  # least multiple of the size at which a JPEG is decoded: the last halving is by averages, as ADM's
)
CACHED_ORDERS = 3  # epochs whose order is cached: batches are prefetched
CACHE_BYTES = 2**29  # decoded pictures stay in memory if all of them fit in this
TOKENIZER_CAPTIONS = 20_000  # pictures whose captions are used


class Source(Protocol):
    """Stored pictures by index: a folder (`glide.data.folder_index`) or shards (`glide.data.shards.dataset`)."""

    @property
    def folder(self) -> str:
        """The path of the data, for messages."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Name of each label; empty for pictures with captions, or without annotations."""

    @property
    def captioned(self) -> bool:
        """True if every picture has a caption."""

    @property
    def problems(self) -> dict[str, str]:
        """Samples known to be unusable without decoding, with the reason; not counted by len."""

    @property
    def left_out(self) -> dict[str, str]:
        """Pictures that no table names or whose format is not read, with the reason: not damage, not counted by len."""

    @property
    def lanes(self) -> int:
        """Positions of an order that are equal modulo this are stored close together (`glide.data.shards.epoch_order`).

        1: no positions are.
        """

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...

    def read(self, index: int) -> bytes:
        """InputError if it cannot be read."""

    def caption(self, index: int) -> str:
        """The caption, or the first of several. InputError if it cannot be read, BrokenCaptionError if empty."""

    def every_caption(self, index: int) -> Sequence[str]:
        """The caption, or all of several. Errors as `caption`."""

    def label(self, index: int) -> int: ...

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """Every index once."""

    def only(self, keep: Callable[[str], bool]) -> Source:
        """The pictures for whose names `keep` is true."""


class StoredData:
    """A source's pictures, in a new order every epoch; a batch may span the end of one epoch and the next's start.

    A damaged or unreadable picture, or one with such a caption, is skipped: the next usable one of the epoch's order
    takes its place, so that a batch is still a function of its step. Thread-safe.

    Pictures stay in memory once they are decoded, if all together fit in `CACHE_BYTES`.
    """

    def __init__(
        self,
        source: Source,
        size: Size,
        seed: int,
        random_crop: bool,
        flip: bool,
        max_broken: float,
        channels: int = 3,
        conditions: Sequence[StoredCondition] = (),
        buckets: Buckets | None = None,
    ) -> None:
        """size: (H, W) of all pictures; with buckets, each has the size of its own."""
        check_channels(channels, "the model")
        self.conditions, self.buckets = conditions, buckets
        self.sizes: tuple[Size, ...] = (size,) if buckets is None else buckets.sizes
        self._counts = [len(source)] if buckets is None else buckets.counts
        self._schedule = BucketSchedule(self._counts, seed)
        self.source, self.seed, self.channels = source, seed, channels
        self.random_crop, self.flip, self.max_broken = random_crop, flip, max_broken
        self.class_names = source.class_names
        stored = channels + sum(condition.kind.stored for condition in conditions)
        fits = len(source) * max(map(math.prod, self.sizes)) * stored <= CACHE_BYTES
        self._caches = fits and not random_crop  # random crops differ each time
        self._cache: dict[int, tuple[NDArray[np.uint8], ...]] = {}
        self._broken: dict[int, tuple[str, str]] = {}  # name and reason
        self._orders: dict[int, Sequence[int]] = {}
        self._members: dict[tuple[int, int], Sequence[int]] = {}  # by bucket and epoch
        self._lock = threading.Lock()
        self._buffers = BufferPool()
        if source.problems:
            self._check_share("first", next(iter(source.problems.items())))

    def __len__(self) -> int:
        return len(self.source)

    @property
    def broken(self) -> Mapping[str, str]:
        """Pictures known to be left out or unusable so far, sorted by name, with the reason."""
        return dict(sorted({**self.source.left_out, **self._damaged}.items()))

    @property
    def _damaged(self) -> dict[str, str]:
        with self._lock:
            met = dict(self._broken.values())
        return dict(sorted({**self.source.problems, **met}.items()))

    def size_of(self, index: int) -> Size:
        """The size (H, W) that a picture has in batches."""
        return self.sizes[0 if self.buckets is None else self.buckets.of[index]]

    def check_batch(self, size: int) -> None:
        if size > len(self):
            raise InputError(
                f"{self.source.folder} has {len(self)} pictures, fewer than a batch of {size}: "
                "lower the batch size or add pictures"
            )

    def batch(self, step: int, size: int, rows: range | None = None) -> dict[str, object]:
        """image, uint8 [N,C,H,W], with caption or y if there are any: all `size` pictures of a step, or its `rows`.

        Also conditions, uint8 [N,c,H,W], by their keys. With buckets all are of one size, that of the step's.
        """
        wanted = range(size) if rows is None else rows
        bucket, positions = self._positions(step, size)
        pixels = self._buffers.get((len(wanted), *self.sizes[bucket], self.channels))
        annotations: list[str | int | None] = []
        conditions: list[Sequence[NDArray[Any]]] = []
        for row, place in zip(wanted, pixels, strict=True):
            (picture, *others), annotation = self._sample(bucket, positions[row])
            place[...] = picture.reshape(place.shape)
            annotations.append(annotation)
            conditions.append(others)
        batch: dict[str, object] = {"image": torch.from_numpy(pixels).permute(0, 3, 1, 2)}
        for condition, found in zip(self.conditions, zip(*conditions, strict=True), strict=False):
            batch[condition.kind.key] = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
        if self.class_names:
            return {**batch, "y": torch.tensor(annotations, dtype=torch.int64)}
        return {**batch, "caption": annotations} if self.source.captioned else batch

    def _positions(self, step: int, size: int) -> tuple[int, Sequence[int]]:
        """The bucket of a step, and the positions of its rows in the bucket's endless sequence of epochs."""
        self.check_batch(size)
        if self.buckets is None:
            return 0, order_by_lane(range(step * size, (step + 1) * size), len(self), self.source.lanes)
        bucket, visit = self._schedule.at(step)
        return bucket, range(visit * size, (visit + 1) * size)

    def captions_for_tokenizer(self) -> list[str]:
        if not self.source.captioned:
            return []
        # a fixed sample: enough for any vocabulary, without reading small files for an hour
        indices = np.random.default_rng(0).permutation(len(self))[:TOKENIZER_CAPTIONS]
        return [caption for index in sorted(indices.tolist()) for caption in self._every_caption(index)]

    def _every_caption(self, index: int) -> Sequence[str]:
        """The captions of a picture; empty if they are broken."""
        try:
            return self.source.every_caption(index)
        except InputError as error:
            self._count(index, error)
            return ()

    def _sample(self, bucket: int, position: int) -> tuple[tuple[NDArray[Any], ...], str | int | None]:
        """A picture with its conditions, and its caption or label, at a position of a bucket's endless sequence of
        epochs.

        Pictures are HxWxC or HxW.
        """
        count = self._counts[bucket]
        epoch, place = divmod(position, count)
        order = self._order(bucket, epoch)
        key = (self.seed, epoch, place, *([bucket] if bucket else []))
        for offset in range(count):
            index = int(order[(place + offset) % count])
            if index in self._broken:
                continue
            try:  # a missing or unreadable file counts as damaged
                annotation = self._annotation(index, key)
                picture = self._picture(index, key)
            except InputError as error:
                self._count(index, error)
                continue
            return picture, annotation
        which = "" if self.buckets is None else f" of the bucket {size_text(self.sizes[bucket])}"
        raise InputError(f"every picture{which} in {self.source.folder} is broken: replace them")

    def _annotation(self, index: int, key: Sequence[int]) -> str | int | None:
        """The label or the caption; of several captions, a random one by the key of the place."""
        if not self.source.captioned:
            return self.source.label(index) if self.class_names else None
        captions = self.source.every_caption(index)
        if len(captions) == 1:
            return captions[0]
        # a hash: numpy's generator takes a third of the time of a small picture
        drawn = hashlib.blake2b(" ".join(map(str, key)).encode(), digest_size=8).digest()
        return captions[int.from_bytes(drawn, "big") % len(captions)]

    def _picture(self, index: int, key: Sequence[int]) -> tuple[NDArray[Any], ...]:
        """A picture, HxWxC or HxW, as a place of an epoch gets it, with its conditions."""
        return self._augmented(index, key)

    def augmented(self, index: int, key: Sequence[int]) -> NDArray[np.uint8]:
        """A picture, HxWxC or HxW, cropped and mirrored at random by the numbers of `key`. InputError if broken."""
        return self._augmented(index, key)[0]

    def _augmented(self, index: int, key: Sequence[int]) -> tuple[NDArray[np.uint8], ...]:
        """The same with the picture's conditions [H,W,c], cut and mirrored alike."""
        x, y, share, mirrored = 0.5, 0.5, 1.0, False
        if self.random_crop or self.flip:
            draws = np.random.default_rng(key).random(4).tolist()
            mirrored = self.flip and draws[3] < 0.5
            if self.random_crop:
                x, y, share = draws[0], draws[1], MIN_CROP + (1 - MIN_CROP) * draws[2]
        pixels = self._cache.get(index)
        if pixels is None:
            pixels = self._decoded(index, x, y, share)
            if self._caches:
                self._cache[index] = pixels
        return tuple(part[:, ::-1] for part in pixels) if mirrored else pixels

    def decoded(self, index: int) -> NDArray[np.uint8]:
        """The middle of a picture, HxWxC or HxW. InputError if the picture is broken."""
        return self._decoded(index)[0]

    def _decoded(
        self, index: int, x: float = 0.5, y: float = 0.5, share: float = 1.0
    ) -> tuple[NDArray[np.uint8], ...]:
        """A picture's part of that place and share, HxWxC or HxW, and its conditions. InputError if it is broken."""
        data, name, size = self.source.read(index), self.source.name(index), self.size_of(index)
        least = DRAFT_SCALE * max(size) / (MIN_CROP if self.random_crop else 1)
        whole = decode_picture(data, name, least=round(least))[0]
        picture = cropped_picture(in_mode(whole, self.channels), size, x, y, share)
        conditions = (c.cut(index, whole, size, x, y, share) for c in self.conditions)
        return (np.asarray(picture), *conditions)

    def _count(self, index: int, error: InputError) -> None:
        found = self.source.name(index), str(error)
        with self._lock:
            self._broken[index] = found
        self._check_share("last", found)

    def _check_share(self, which: str, found: tuple[str, str]) -> None:
        """InputError if more pictures are broken than `max_broken`."""
        total = len(self) + len(self.source.problems)
        if len(self._broken) + len(self.source.problems) > self.max_broken * total:
            broken = self._damaged
            raise InputError(
                f"{len(broken)} of {total} pictures in {self.source.folder} are broken, more than the "
                f"{self.max_broken:.2%} that may be: {few(list(broken), 5)} (the {which}: {' '.join(found)}): "
                "remove them or raise --max-broken"
            )

    def _order(self, bucket: int, epoch: int) -> Sequence[int]:
        """The pictures of a bucket in the order of an epoch."""
        with self._lock:
            if self.buckets is None:
                return self._whole_order(epoch)
            if (bucket, epoch) not in self._members:
                while len(self._members) >= CACHED_ORDERS * len(self.sizes):
                    del self._members[next(iter(self._members))]
                order = np.fromiter(self._whole_order(epoch), np.int64, len(self))
                self._members[bucket, epoch] = self.buckets.members(bucket, order).tolist()
            return self._members[bucket, epoch]

    def _whole_order(self, epoch: int) -> Sequence[int]:
        if epoch not in self._orders:
            while len(self._orders) >= CACHED_ORDERS:
                del self._orders[next(iter(self._orders))]
            order = self.source.order(self.seed, epoch)
            self._orders[epoch] = order if self.buckets is None else list(order)
        return self._orders[epoch]
