"""WebDataset shards as a source of pictures: `--data "shards/{0000..0999}.tar"`, local or by a blobfile URL."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from glide.data.shards.brace_expansion import shard_names
from glide.data.shards.epoch_order import BLOCK, LANES, MIXED_SHARDS, WINDOW, EpochOrder
from glide.data.shards.index_cache import ensure_indices, shard_index
from glide.data.shards.tar_index import ShardIndex
from glide.utils.captions import LARGEST_FILE, decode_text, encodable, shown_name
from glide.utils.errors import InputError
from glide.utils.filesystem import LocalFile, is_remote, join, read_bytes, read_range
from glide.utils.image_files import LARGEST_FILE as LARGEST_PICTURE
from glide.utils.shared_cache import SharedCache

# shards with their indices in memory and their files open: the mixed ones, those before and after them
CACHED_SHARDS = 4 * MIXED_SHARDS
CACHED_BLOCKS = 2 * WINDOW // BLOCK  # blocks of remote shards: this window's and the next one's
CLASS_NAMES = "classnames.txt"
MIN_CLASS_LIMIT = 2**16
"""Classes that any shards may have; more only with as many pictures. Each class takes memory of a model."""


class Shards:
    """Pictures with captions, or with classes, in tar files; each is "shard/member" by name.

    If any sample has a caption, all are captioned pictures. Otherwise all have a class number (.cls), with optional
    names in classnames.txt beside the first shard, one per line. InputError for shards that are missing, are no tar
    files, or hold no usable picture.
    """

    lanes = LANES

    def __init__(
        self, spec: str, keep: Callable[[str], bool] | None = None, unconditional: bool = False
    ) -> None:
        """keep: take pictures for whose names it is true. unconditional: take all, without their annotations."""
        self.folder, self.keep, self.unconditional = spec, keep, unconditional
        self.paths = shard_names(spec)
        self._indices: SharedCache[int, ShardIndex] = SharedCache(CACHED_SHARDS)
        self._files: SharedCache[int, LocalFile] = SharedCache(CACHED_SHARDS)
        self._blocks: SharedCache[tuple[int, int], bytes] = SharedCache(CACHED_BLOCKS)
        ensure_indices(self.paths)
        self.max_classes = MIN_CLASS_LIMIT
        self.captioned, classes = (False, 0) if unconditional else self._kinds()
        self.class_names = self._class_names(classes) if classes else ()
        self.problems: dict[str, str] = {}
        self.left_out: dict[str, str] = {}
        rows = [self._usable(shard) for shard in range(len(self.paths))]
        if not sum(map(len, rows)):
            first = next(iter(self.problems.items()), None)
            why = f" ({first[0]} {first[1]})" if first else ""
            raise InputError(
                f"{spec} holds no picture that can be used{why}: expected KEY.jpg with KEY.txt, KEY.json or KEY.cls"
            )
        self.rows: list[NDArray[np.int32]] = rows
        self.ends: list[int] = np.cumsum([len(r) for r in rows]).tolist()

    def only(self, keep: Callable[[str], bool]) -> Shards:
        """The pictures for whose names `keep` is true."""
        return Shards(self.folder, keep, self.unconditional)

    def __len__(self) -> int:
        return self.ends[-1]

    def name(self, index: int) -> str:
        shard, row = self._place(index)
        return self._name(shard, self._index(shard).names[row])

    def caption(self, index: int) -> str:
        shard, row = self._place(index)
        caption = self._index(shard).captions[row]
        assert caption is not None
        return caption

    def every_caption(self, index: int) -> Sequence[str]:
        shard, row = self._place(index)
        entries = self._index(shard)
        return entries.several.get(entries.names[row]) or (self.caption(index),)

    def label(self, index: int) -> int:
        shard, row = self._place(index)
        label = self._index(shard).labels[row]
        assert label is not None
        return label

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """The order of an epoch: every index once, shuffled by `glide.data.shards.epoch_order`."""
        return EpochOrder([len(r) for r in self.rows], seed, epoch)  # type: ignore[return-value]

    def read(self, index: int) -> bytes:
        """The bytes of a picture file. InputError if the shard cannot be read.

        From a remote shard, neighbouring pictures come in the same request: they are needed soon.
        """
        shard, row = self._place(index)
        entries, path = self._index(shard), self.paths[shard]
        offset, size = entries.offsets[row], entries.sizes[row]
        if not is_remote(path):
            return self._files.get(shard, lambda: LocalFile(path)).read(offset, size)
        number = (index - self.ends[shard] + len(self.rows[shard])) // BLOCK
        rows = self.rows[shard][number * BLOCK : (number + 1) * BLOCK].tolist()
        begin, end = entries.offsets[rows[0]], entries.offsets[rows[-1]] + entries.sizes[rows[-1]]
        if end - begin > LARGEST_PICTURE:
            return read_range(path, offset, size)
        block = self._blocks.get((shard, number), lambda: read_range(path, begin, end - begin))
        return block[offset - begin : offset - begin + size]

    def has_second(self, index: int, ending: str) -> bool:
        """True where the sample of picture `index` has another picture of that ending, such as "map.png"."""
        shard, row = self._place(index)
        entries = self._index(shard)
        return ending in entries.seconds.get(entries.names[row], {})

    def read_second(self, index: int, ending: str) -> bytes:
        """The bytes of that other picture. InputError if the shard cannot be read, or the file is too large."""
        shard, row = self._place(index)
        entries, path = self._index(shard), self.paths[shard]
        offset, size = entries.seconds[entries.names[row]][ending]
        if size > LARGEST_PICTURE:
            raise InputError(f"has a .{ending} that is too large a file: {size} bytes")
        if not is_remote(path):
            return self._files.get(shard, lambda: LocalFile(path)).read(offset, size)
        return read_range(path, offset, size)

    def _place(self, index: int) -> tuple[int, int]:
        """The shard that holds picture `index`, and its row there."""
        shard = bisect_right(self.ends, index)
        return shard, int(self.rows[shard][index - (self.ends[shard] - len(self.rows[shard]))])

    def _index(self, shard: int) -> ShardIndex:
        return self._indices.get(shard, lambda: shard_index(self.paths[shard]))

    def _name(self, shard: int, member: str) -> str:
        return shown_name(f"{self._shard_names[shard]}/{member}")

    @cached_property
    def _shard_names(self) -> list[str]:
        """The file names of the shards, with as many parent folders as make them distinct."""
        for parts in range(1, 50):
            names = ["/".join(path.replace(os.sep, "/").split("/")[-parts:]) for path in self.paths]
            if len(set(names)) == len(names):
                break
        return names

    def _kinds(self) -> tuple[bool, int]:
        """True if any sample has a caption, and the number of classes."""
        pictures = 0
        labels: set[int] = set()
        for shard in range(len(self.paths)):
            index = self._index(shard)
            if any(caption is not None for caption in index.captions):
                return True, 0
            pictures += len(index.names)
            labels.update(label for label in index.labels if label is not None)
        self.max_classes = max(MIN_CLASS_LIMIT, pictures)
        classes = max((label + 1 for label in labels if label < self.max_classes), default=0)
        return not labels, classes  # with neither, all count as captioned, and lack a caption

    def _class_names(self, classes: int) -> tuple[str, ...]:
        folder, slash, _ = self.paths[0].replace(os.sep, "/").rpartition("/")
        path = join(folder, CLASS_NAMES) if slash else CLASS_NAMES
        if not is_remote(path) and not os.path.exists(path):
            return tuple(map(str, range(classes)))
        try:
            text = decode_text(read_bytes(path, LARGEST_FILE), path)
            names = [encodable(line.strip()) for line in text.splitlines() if line.strip()]
        except InputError:
            if is_remote(path):  # where there is no such file
                return tuple(map(str, range(classes)))
            raise
        if not classes <= len(names) <= self.max_classes or len(set(names)) < len(names):
            raise InputError(
                f"{path} has {len(set(names))} different names, expected one for each of the {classes} classes of the "
                "shards: correct it"
            )
        return tuple(names)

    def _usable(self, shard: int) -> NDArray[np.int32]:
        """The rows of a shard with usable pictures of this data set; the others go to `problems`."""
        index, rows = self._index(shard), []
        values: Sequence[object] = index.captions if self.captioned else index.labels
        for key, reason in index.unusable.items():
            if self.keep is None or self.keep(self._name(shard, key)):
                self.problems[self._name(shard, key)] = reason
        for row, (member, value) in enumerate(zip(index.names, values, strict=True)):
            name = self._name(shard, member)
            if self.keep is not None and not self.keep(name):
                continue
            if index.sizes[row] > LARGEST_PICTURE:
                self.problems[name] = f"is too large a file: {index.sizes[row]} bytes"
            elif isinstance(value, int) and value >= self.max_classes:
                self.problems[name] = f"has the class {value}, expected one below {self.max_classes}"
            elif value is not None or self.unconditional:
                rows.append(row)
            else:
                missing = "has no caption" if self.captioned else "has no class"
                fault = index.faults.get(member)
                self.problems[name] = f"{missing} ({fault})" if fault else missing
        return np.array(rows, np.int32)
