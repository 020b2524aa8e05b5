"""Data sets to batches. A batch is a pure function of (seed, step, size): resuming needs nothing remembered.

N pictures, H W pixels.
"""

from __future__ import annotations

import hashlib
import queue
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from glide.errors import InputError
from glide.images import BrokenImageError, decode_image, from_uint8
from glide.listing import Listing, list_folder
from glide.paths import join, read_bytes
from glide.resize import square
from glide.shapes import Shapes

Batch = dict[str, Any]
Split = Literal["train", "held_out"]
MIN_SHARE = 0.8  # of the short side that a random crop shows, at least: ADM's


class Dataset(Protocol):
    """What training asks of data."""

    @property
    def class_names(self) -> Sequence[str]:
        """Name of each label; empty where pictures have captions."""

    @property
    def broken(self) -> Sequence[str]:
        """Files that were met so far and skipped because they are damaged."""

    def check_batch(self, size: int) -> None:
        """InputError if there are fewer than `size` pictures."""

    def batch(self, step: int, size: int) -> Batch:
        """{"image": float32 [size, 3, H, W] in [-1, 1]} with "caption": list[str], or "y": int64 [size]."""

    def captions_for_tokenizer(self) -> list[str]:
        """Captions to train a tokenizer on; none if there are classes instead."""


def open_data(
    spec: str,
    image_size: int,
    *,
    seed: int = 0,
    crop: Literal["center", "random"] = "center",
    flip: bool = False,
    max_broken: float = 0.01,
    held_out: float = 0.0,
    split: Split = "train",
) -> Dataset:
    """The data set of a `--data` argument, its pictures image_size pixels wide and high.

    spec: "shapes" or "shapes:..." (`Shapes.parse_spec`), or a folder, local or any blobfile path, with captioned
    pictures (x.png beside x.txt, one captions.csv with file,caption or metadata.jsonl with file_name,text) or with
    a folder for each class (labels follow the sorted names).
    crop: "center" the largest square, "random" one of 80% to 100% of its side anywhere.
    flip: mirror every other picture, by chance; captions that say "left" are then wrong.
    max_broken: share of damaged pictures that are skipped, another picture taking their place.
    held_out: share of the files that "train" leaves out and "held_out" consists of, chosen by a hash of their names
    (shapes has its own held-out scenes).
    InputError if the spec is unusable, or the folder is missing, empty, of mixed layouts or lacks a caption.
    """
    if image_size < 1 or crop not in ("center", "random") or split not in ("train", "held_out"):
        raise InputError(
            f"image_size {image_size}, crop {crop!r}, split {split!r}: expected at least 1, center or random, "
            "train or held_out"
        )
    if not 0 <= max_broken <= 1 or not 0 <= held_out < 1:
        raise InputError(f"max_broken {max_broken}, held_out {held_out}: expected shares from 0 to 1")
    if seed < 0:
        raise InputError(f"seed {seed}: expected a number from 0")
    if spec == "shapes" or spec.startswith("shapes:"):
        return GeneratedData(Shapes.parse_spec(spec, seed=seed, image_size=image_size, split=split))
    listing = list_folder(spec)
    if held_out or split == "held_out":
        wanted = split == "held_out"
        keep = [i for i, name in enumerate(listing.images) if is_held_out(name, held_out) == wanted]
        if not keep:
            raise InputError(
                f"of {len(listing.images)} pictures in {spec} none is {split}: change --held-out"
            )
        listing = listing.only(keep)
    return FolderData(listing, image_size, seed, crop == "random", flip, max_broken)


def is_held_out(name: str, share: float) -> bool:
    """Whether a file is among the held-out `share`: by its name alone, so more files change nothing for it."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") < share * 2**64


class GeneratedData:
    """Scenes drawn on demand: none is broken, and there are enough for any batch."""

    class_names: Sequence[str] = ()
    broken: Sequence[str] = ()

    def __init__(self, shapes: Shapes) -> None:
        self.shapes = shapes

    def check_batch(self, size: int) -> None:
        return

    def batch(self, step: int, size: int) -> Batch:
        return self.shapes.batch(step, size)

    def captions_for_tokenizer(self) -> list[str]:
        return self.shapes.captions_for_tokenizer()


class FolderData:
    """Pictures of a listed folder, in a new order every epoch; a batch may hold the end of one and the next's start."""

    def __init__(
        self, listing: Listing, image_size: int, seed: int, random_crop: bool, flip: bool, max_broken: float
    ) -> None:
        self.listing, self.image_size, self.seed = listing, image_size, seed
        self.random_crop, self.flip, self.max_broken = random_crop, flip, max_broken
        self.class_names = listing.class_names
        self._broken: set[int] = set()
        self._orders: dict[int, NDArray[np.int64]] = {}

    def __len__(self) -> int:
        return len(self.listing.images)

    @property
    def broken(self) -> list[str]:
        return [self.listing.images[i] for i in sorted(self._broken)]

    def check_batch(self, size: int) -> None:
        if size > len(self):
            raise InputError(
                f"{self.listing.folder} has {len(self)} pictures, fewer than a batch of {size}: "
                "lower the batch size or add pictures"
            )

    def batch(self, step: int, size: int) -> Batch:
        self.check_batch(size)
        samples = [self._sample(position) for position in range(step * size, (step + 1) * size)]
        indices = [index for index, _ in samples]
        batch: Batch = {"image": from_uint8(torch.stack([pixels for _, pixels in samples]))}
        if self.listing.labels is not None:
            batch["y"] = torch.tensor([self.listing.labels[i] for i in indices], dtype=torch.int64)
        else:
            batch["caption"] = [self.listing.caption(i) for i in indices]
        return batch

    def captions_for_tokenizer(self) -> list[str]:
        if self.listing.labels is not None:
            return []
        # a fixed sample: enough for any vocabulary, and no hour of reading small files
        indices = np.random.default_rng(0).permutation(len(self))[:20_000]
        return [self.listing.caption(i) for i in sorted(indices.tolist())]

    def _sample(self, position: int) -> tuple[int, torch.Tensor]:
        """Index and pixels, uint8 [H, W, 3], of the picture at a position of the endless sequence of epochs.

        A broken picture's place is taken by the next one of the epoch's order that is whole.
        """
        epoch, place = divmod(position, len(self))
        order = self._order(epoch)
        for offset in range(len(self)):
            index = int(order[(place + offset) % len(self)])
            if index in self._broken:
                continue
            path = join(self.listing.folder, self.listing.images[index])
            data = read_bytes(path)
            try:
                image = decode_image(data, path)
            except BrokenImageError as error:
                self._count_broken(index, error)
                continue
            return index, self._cut(image, np.random.default_rng((self.seed, epoch, place)))
        raise InputError(f"every picture in {self.listing.folder} is broken: replace them")

    def _cut(self, image: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
        x, y, share, side = rng.random(4).tolist()
        if self.random_crop:
            pixels = square(image, self.image_size, x, y, MIN_SHARE + (1 - MIN_SHARE) * share)
        else:
            pixels = square(image, self.image_size)
        return pixels.flip(1) if self.flip and side < 0.5 else pixels

    def _count_broken(self, index: int, error: BrokenImageError) -> None:
        self._broken.add(index)
        if len(self._broken) > self.max_broken * len(self):
            raise InputError(
                f"{len(self._broken)} of {len(self)} pictures in {self.listing.folder} are broken, more than the "
                f"{self.max_broken:.2%} that may be: {', '.join(self.broken[:5])} (the last: {error}): "
                "remove them or raise --max-broken"
            ) from error

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if epoch not in self._orders:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self))
            # a batch spans two epochs at most while a step is done after the other
            self._orders = {e: o for e, o in self._orders.items() if e == epoch - 1} | {epoch: order}
        return self._orders[epoch]


def prefetch(dataset: Dataset, start_step: int, size: int, ahead: int = 2) -> Generator[Batch, None, None]:
    """The batches of start_step, start_step + 1, ... without end, made up to `ahead` early by a thread.

    They come in order; an error of the data set is raised where its batch would have come. Closing the iterator
    ends the thread.
    """
    made: queue.Queue[Batch | BaseException] = queue.Queue(ahead)
    closed = threading.Event()

    def put(item: Batch | BaseException) -> None:
        while not closed.is_set():
            with suppress(queue.Full):
                made.put(item, timeout=0.1)
                return

    def work() -> None:
        # for this thread only; a second team of threads would fight with the network's for the same cores
        torch.set_num_threads(1)
        step = start_step
        try:
            while not closed.is_set():
                put(dataset.batch(step, size))
                step += 1
        except BaseException as error:
            put(error)

    worker = threading.Thread(target=work, name="prefetch", daemon=True)
    worker.start()
    try:
        while True:
            item = made.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        closed.set()
        worker.join(timeout=10)  # it may be waiting for a remote file
