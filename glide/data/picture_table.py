"""Pictures that are rows of a table: one file of arrays (`glide.data.idx_files`) or a data set of the hub."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray

from glide.utils.captions import clean_caption


class PictureTable(ABC):
    """A `glide.data.stored_dataset.Source` whose pictures have no files of their own; each is "PART/ROW" by name."""

    lanes = 1  # all pictures are equally fast to read
    captioned = False
    class_names: tuple[str, ...] = ()
    labels: NDArray[np.int64] | None = None
    """Class of every row of the table, an index into `class_names`."""

    def __init__(self, folder: str, part: str, rows: int) -> None:
        """folder: the --data argument, for messages. part: name of a part of the data, such as train."""
        self.folder, self.part = folder, part
        self.rows: NDArray[np.int64] = np.arange(rows)
        self.problems: dict[str, str] = {}
        self.left_out: dict[str, str] = {}

    @abstractmethod
    def bytes_of(self, row: int) -> bytes:
        """A row's picture as the bytes of a picture file. InputError if it cannot be read."""

    def captions_of(self, row: int) -> Sequence[str]:
        """A row's captions, as they are stored."""
        raise NotImplementedError  # of a captioned table alone

    def name_of(self, row: int) -> str:
        return f"{self.part}/{row:06d}"

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return self.name_of(int(self.rows[index]))

    def read(self, index: int) -> bytes:
        """The bytes of a picture file. InputError if it cannot be read."""
        return self.bytes_of(int(self.rows[index]))

    def caption(self, index: int) -> str:
        """The caption, or the first of several. BrokenCaptionError if it is empty."""
        return self.every_caption(index)[0]

    def every_caption(self, index: int) -> Sequence[str]:
        """The caption, or all of several. BrokenCaptionError if one is empty, or there is none."""
        where = self.name(index)
        return [clean_caption(text, where) for text in self.captions_of(int(self.rows[index])) or ("",)]

    def label(self, index: int) -> int:
        """The class of picture `index`, an index into `class_names`."""
        assert self.labels is not None
        return int(self.labels[self.rows[index]])

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """The order of an epoch: every index once."""
        return np.random.default_rng((seed, epoch)).permutation(len(self))  # type: ignore[return-value]

    def only(self, keep: Callable[[str], bool]) -> Self:
        """The pictures for whose names, as `name` returns them, `keep` is true."""
        part = copy.copy(self)
        part.rows = np.array([row for row in self.rows.tolist() if keep(self.name_of(row))], np.int64)
        part.problems = {name: reason for name, reason in self.problems.items() if keep(name)}
        return part
