"""IDX files, the format of MNIST and Fashion-MNIST: `--data idx:FOLDER`, or `idx:FOLDER:test` for the test part.

A file is four bytes (0, 0, 8 for unsigned bytes, number of dimensions), each dimension as 32 bits with the highest byte
first, and the numbers themselves. It may be compressed by gzip.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import math
import os
import zlib
from contextlib import ExitStack
from typing import IO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.data.picture_table import PictureTable
from glide.utils.captions import LARGEST_FILE, decode_text, encodable
from glide.utils.errors import InputError, reason_of
from glide.utils.filesystem import is_remote, join, open_binary, read_bytes
from glide.utils.memory import check_memory

PREFIX = "idx:"
PARTS = {"train": "train", "test": "t10k", "t10k": "t10k"}
"""From the name of a part to the beginning of its files' names."""
CLASS_NAMES = "classnames.txt"
UNSIGNED_BYTES = 8
CHUNK = 2**20
Reader = IO[bytes] | gzip.GzipFile
FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
KNOWN_LABELS = {
    "657fbd221bfc9f4198cc14b5619cc33ec57c58dd0e47af4d99d6650759e869a7": FASHION,
    "3d0e6c6ea990b53b6f8f500a41cac93881d981b315f84578b7d915342ade01e9": FASHION,
}
"""Class names by the SHA-256 of all labels of a part: the files of Fashion-MNIST name no classes."""


class IdxPictures(PictureTable):
    """Grey pictures of an IDX file, with the classes of the file of labels beside it.

    Classes have the names in classnames.txt beside the files, one per line, those of Fashion-MNIST where the labels
    are its own, or else their numbers.
    """

    def __init__(self, spec: str, unconditional: bool = False) -> None:
        """unconditional: pictures alone. InputError for files that are missing, damaged or do not fit each other."""
        folder, part = _read_spec(spec)
        path = _find(folder, f"{PARTS[part]}-images", 3)
        self.pixels = read_idx(path, 3)  # [N,H,W]
        if not self.pixels.size:
            raise InputError(f"{path} holds no pictures, expected some: give another file")
        super().__init__(spec, part, len(self.pixels))
        if unconditional:
            return
        labels_path = _find(folder, f"{PARTS[part]}-labels", 1)
        labels = read_idx(labels_path, 1)  # [N]
        if len(labels) != len(self.pixels):
            raise InputError(
                f"got {len(labels)} labels in {labels_path} for the {len(self.pixels)} pictures in {path}, expected as "
                "many: fetch both files again"
            )
        self.labels = labels.astype(np.int64)
        self.class_names = _class_names(folder, labels)

    def bytes_of(self, row: int) -> bytes:
        """The picture as a PNG."""
        file = io.BytesIO()
        Image.fromarray(self.pixels[row]).save(file, "PNG", compress_level=1)
        return file.getvalue()


def is_idx(spec: str) -> bool:
    """True for a `--data` argument that names IDX files."""
    return spec.startswith(PREFIX)


def _read_spec(spec: str) -> tuple[str, str]:
    """The folder and the part of "idx:FOLDER" or "idx:FOLDER:PART"."""
    folder, _, part = spec.removeprefix(PREFIX).rpartition(":")
    if not folder or part not in PARTS:
        folder, part = spec.removeprefix(PREFIX), "train"
    if not folder:
        raise InputError(
            f"got {spec}, expected the folder of the IDX files: write idx:FOLDER, or idx:FOLDER:test"
        )
    return folder, part


def _find(folder: str, name: str, dimensions: int) -> str:
    """The path of a part's file, plain or compressed. InputError if there is none."""
    names = [f"{name}{sign}idx{dimensions}-ubyte{end}" for sign in "-." for end in ("", ".gz")]
    if is_remote(folder):
        return join(folder, names[1])  # as they are published
    found = next((path for one in names if os.path.isfile(path := join(folder, one))), None)
    if found is None:
        raise InputError(
            f"there is no {names[0]} or {names[1]} in {folder}, expected the files of MNIST or Fashion-MNIST: give "
            "their folder"
        )
    return found


def read_idx(path: str, dimensions: int) -> NDArray[np.uint8]:
    """The numbers of an IDX file of unsigned bytes, of that many dimensions.

    InputError for a file that cannot be read, is of another kind, is cut off or goes on after its last number.
    """
    with ExitStack() as stack:
        file: Reader = stack.enter_context(open_binary(path))
        try:
            if path.lower().endswith(".gz"):
                file = stack.enter_context(gzip.GzipFile(fileobj=file))
            shape = _shape(file.read(4 * (1 + dimensions)), dimensions, path)
            size = math.prod(shape)
            check_memory(size, f"the {shape[0]} rows of {path}", "give a smaller file")
            data = _read_at_most(file, size + 1)
        except (gzip.BadGzipFile, zlib.error) as error:
            raise InputError(
                f"{path} is damaged ({reason_of(error)}), expected data of gzip: fetch it again"
            ) from error
        except EOFError:
            raise InputError(
                f"{path} is cut off, expected the end of its gzip data: fetch it again"
            ) from None
    if len(data) != size:
        what = "more" if len(data) > size else f"only {len(data)}"
        raise InputError(
            f"{path} holds {what} bytes of numbers, expected {size} as its header says: fetch it again"
        )
    return np.frombuffer(data, np.uint8).reshape(shape)


def _shape(header: bytes, dimensions: int, path: str) -> tuple[int, ...]:
    """The dimensions that a header names. InputError for that of another kind of file."""
    expected = bytes((0, 0, UNSIGNED_BYTES, dimensions))
    if header[:4] != expected or len(header) < 4 * (1 + dimensions):
        raise InputError(
            f"{path} begins with {header[:4].hex() or 'nothing'}, expected {expected.hex()} of an IDX file of "
            f"unsigned bytes in {dimensions} dimensions: give another file"
        )
    return tuple(np.frombuffer(header, ">u4")[1:].tolist())


def _read_at_most(file: Reader, size: int) -> bytes:
    """Up to `size` bytes, in chunks: a single read would allocate memory for all requested bytes."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _class_names(folder: str, labels: NDArray[np.uint8]) -> tuple[str, ...]:
    """A name for each class. InputError for a classnames.txt that has not one for each."""
    classes = int(labels.max()) + 1
    path = join(folder, CLASS_NAMES)
    if not is_remote(path) and os.path.exists(path):
        lines = decode_text(read_bytes(path, LARGEST_FILE), path).splitlines()
        names = tuple(encodable(line.strip()) for line in lines if line.strip())
        if len(names) < classes or len(set(names)) < len(names):
            raise InputError(
                f"{path} has {len(set(names))} different names, expected one for each of the {classes} classes: "
                "correct it"
            )
        return names
    return KNOWN_LABELS.get(hashlib.sha256(labels.tobytes()).hexdigest(), tuple(map(str, range(classes))))
