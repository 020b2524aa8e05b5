"""Data sets of the Hugging Face hub by the library `datasets`: `--data hf:NAME`, or `hf:NAME:SPLIT`.

NAME may also be a folder: one that `datasets` saved, or one that it can load.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from glide.data.picture_table import PictureTable
from glide.utils.captions import encodable
from glide.utils.errors import InputError, one_line
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE
from glide.utils.progress import shows_bars

PREFIX = "hf:"
CAPTIONS = ("text", "caption", "captions", "prompt", "description")
"""Names of columns that hold captions."""


class HubPictures(PictureTable):
    """The pictures of one split, with the captions of a column of texts, or with the classes of a column of labels."""

    def __init__(self, spec: str, unconditional: bool = False) -> None:
        """unconditional: pictures alone.

        InputError where `datasets` is not installed or cannot load the data, and for data without a column of pictures,
        or of captions or classes.
        """
        name, split = _read_spec(spec)
        library = _datasets()
        table = _load(library, name, split)
        super().__init__(spec, split, len(table))
        image = next((key for key, kind in table.features.items() if isinstance(kind, library.Image)), None)
        if image is None or not len(table):
            raise InputError(
                f"{spec} has no column of pictures (of {', '.join(table.features)}), expected one: give other data"
            )
        self._image, self._table = image, table.cast_column(image, library.Image(decode=False))
        if not unconditional:
            self._annotate(library)

    def _annotate(self, library: ModuleType) -> None:
        """Find captions or classes. InputError where there are neither."""
        kinds = self._table.features
        self._caption = next((key for key in CAPTIONS if key in kinds), None)
        label = next((key for key, kind in kinds.items() if isinstance(kind, library.ClassLabel)), None)
        if self._caption is not None:
            self.captioned = True
        elif label is not None:
            self.labels = np.array(self._table[label], np.int64)
            self.class_names = tuple(encodable(name) for name in kinds[label].names)
            unknown = (self.labels < 0).nonzero()[0]  # -1, as in test parts without answers
            self.problems = {self.name_of(row): "has no class" for row in unknown.tolist()}
            self.rows = np.delete(self.rows, unknown)
        else:
            raise InputError(
                f"{self.folder} has neither captions nor classes in its columns {', '.join(kinds)}, expected one named "
                f"{' or '.join(CAPTIONS)}, or of labels: give other data, or --unconditional"
            )

    def bytes_of(self, row: int) -> bytes:
        """The picture as it is stored. InputError if it cannot be read."""
        stored: dict[str, Any] | None = self._table[row][self._image]
        if stored is None or (stored["bytes"] is None and stored["path"] is None):
            raise InputError("is missing in its row: remove it")
        return stored["bytes"] if stored["bytes"] is not None else read_bytes(stored["path"], LARGEST_FILE)

    def captions_of(self, row: int) -> Sequence[str]:
        found = self._table[row][self._caption]
        return [found] if isinstance(found, str) else [str(text) for text in found or ()]


def is_hub(spec: str) -> bool:
    """True for a `--data` argument that names a data set of the hub."""
    return spec.startswith(PREFIX)


def _read_spec(spec: str) -> tuple[str, str]:
    """Name and split of "hf:NAME" or "hf:NAME:SPLIT"."""
    name, _, split = spec.removeprefix(PREFIX).partition(":")
    if not name:
        raise InputError(
            f"got {spec}, expected a data set's name: write hf:NAME or hf:NAME:SPLIT, such as hf:fashion_mnist:test"
        )
    return name, split or "train"


def _datasets() -> ModuleType:
    """The library, which is an extra. InputError if it is not installed."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            "--data hf:NAME needs the library datasets, which is not installed: pip install 'glide-toolkit[datasets]'"
        ) from None
    return datasets


def _load(library: ModuleType, name: str, split: str) -> Any:
    """The rows of a split. InputError where the data cannot be had, for whatever reason."""
    if not shows_bars():
        library.disable_progress_bars()
    try:
        if os.path.isdir(name) and _saved(name):
            found = library.load_from_disk(name)
            return found[split] if isinstance(found, library.DatasetDict) else found
        return library.load_dataset(name, split=split)
    except Exception as error:  # offline, unknown, private, without this split: many classes with one meaning
        reason = one_line(error).rstrip(".") or type(error).__name__
        raise InputError(
            f"the library datasets did not give the split {split} of {name} ({reason}): check the name and the "
            "connection, or give a local folder"
        ) from error


def _saved(folder: str) -> bool:
    """True for a folder that `datasets` saved."""
    return any(os.path.isfile(os.path.join(folder, name)) for name in ("dataset_dict.json", "state.json"))
