"""Index of a shard from one pass over its tar headers: each picture's place in the file, and its caption.

The webdataset library reads shards as streams, which cannot give the batch of step k without all before it (see
`glide.data.shards.epoch_order`); an index allows reading any picture. The layout is webdataset's, as img2dataset writes
it: the members of one sample share their name up to its first dot, and the suffix is their type: one of
`glide.utils.image_files.SUFFIXES` is the picture, txt the caption, json holds one as "caption" or "text" or several as
"captions", cls is a class number. Further pictures of a sample have endings of two parts, such as map.png.
"""

from __future__ import annotations

import dataclasses
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO

from glide.utils.captions import LARGEST_CAPTION, BrokenCaptionError, clean_caption, decode_text
from glide.utils.errors import InputError
from glide.utils.filesystem import open_binary
from glide.utils.image_files import SUFFIXES
from glide.utils.json_files import parse_json
from glide.utils.numbers import read_whole

PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)
MAX_CLASSES = 2**20  # every class has a name and a row of a model's table
MAX_HEADER_BYTES = 2**20  # limit on a member's extended header: a long name and further attributes
BLOCK = tarfile.BLOCKSIZE


@dataclass
class ShardIndex:
    """The pictures of a shard in stored order, one value each, and its unusable samples."""

    names: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    captions: list[str | None] = field(default_factory=list)
    """The first one of several captions."""
    labels: list[int | None] = field(default_factory=list)
    several: dict[str, list[str]] = field(default_factory=dict)
    """All captions of a picture that has more than one, by its name."""
    faults: dict[str, str] = field(default_factory=dict)
    """The fault of a caption or class file, for pictures that lack one because of it."""
    unusable: dict[str, str] = field(default_factory=dict)
    """Samples without a picture, and damage to the shard itself, with the reason."""
    seconds: dict[str, dict[str, list[int]]] = field(default_factory=dict)
    """Offset and size of further pictures of a sample, by the picture's name and their ending, such as "map.png"."""

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any], size: int) -> ShardIndex:
        """The inverse of `to_json`. ValueError or TypeError for values that do not fit a shard of `size` bytes."""
        index = cls(**values)
        lists: list[Any] = [index.names, index.offsets, index.sizes, index.captions, index.labels]
        if not all(isinstance(v, list) for v in lists) or len(set(map(len, lists))) > 1:
            raise ValueError("lists of different lengths")
        several = list(chain.from_iterable(index.several.values()))
        types: list[tuple[Iterable[Any], set[type]]] = [
            (index.names, {str}),
            (index.offsets, {int}),
            (index.sizes, {int}),
            (index.captions, {str, type(None)}),
            (index.labels, {int, type(None)}),
            (index.several.values(), {list}),
            (several, {str}),
            (index.faults.values(), {str}),
            (index.unusable.values(), {str}),
            (index.seconds.values(), {dict}),
        ]
        if not all(set(map(type, column)) <= known for column, known in types) or not all(
            index.several.values()
        ):
            raise ValueError("values of other types")
        seconds = [place for files in index.seconds.values() for place in files.values()]
        if not all(type(n) is int for place in seconds for n in place):
            raise ValueError("values of other types")
        places = [
            *zip(index.offsets, index.sizes, strict=True),
            *((begin, length) for begin, length in seconds),
        ]
        if not all(offset >= 0 and 0 <= length <= size - offset for offset, length in places):
            raise ValueError("places outside the shard")
        if not all(label is None or 0 <= label < MAX_CLASSES for label in index.labels):
            raise ValueError("classes out of range")
        return index


@dataclass
class _Sample:
    picture: tarfile.TarInfo | None = None
    caption: str | None = None
    several: list[str] = field(default_factory=list)
    label: int | None = None
    fault: str = ""
    seconds: dict[str, list[int]] = field(default_factory=dict)

    @property
    def offset(self) -> int:
        return -1 if self.picture is None else self.picture.offset_data


def scan_shard(path: str) -> ShardIndex:
    """The index of a tar file, local or remote. InputError if it cannot be read or is no tar file."""
    samples: dict[str, _Sample] = {}
    index = ShardIndex()
    with open_binary(path) as file:
        try:
            headers: Any = _Headers(file)
            with tarfile.open(fileobj=headers, mode="r:") as tar:
                for member in _members(tar, file, index.unusable):
                    _assign(samples, member, lambda m=member: _read(file, m), index.unusable)  # type: ignore[misc]
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise InputError(
                f"{path} is no tar file ({error}): write it again, or leave it out of the shards"
            ) from error
    # in stored order, so that one request reads neighbours
    for key, sample in sorted(samples.items(), key=lambda item: item[1].offset):
        _add(index, key, sample)
    return index


class _Headers:
    """A tar file for `tarfile`, with a limit on the length of headers, which it would trust without bound."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {size} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _members(tar: tarfile.TarFile, file: BinaryIO, unusable: dict[str, str]) -> Iterator[tarfile.TarInfo]:
    """The complete members of a tar; at damage or truncation it ends, with an entry in `unusable`."""
    size, last = file.seek(0, 2), 0
    while True:
        try:
            member = tar.next()
        except (tarfile.TarError, ValueError, OverflowError, RecursionError):  # damaged extended headers
            member = None
            if tar.offset >= size:  # the next header would be beyond the end
                unusable["(end)"] = f"is cut off at byte {size}: what followed is lost"
                return
        tar.members = []  # type: ignore[attr-defined]  # it would otherwise keep all of them
        if member is None:
            break
        if member.size < 0 or member.offset_data < last:  # it would point backwards
            unusable["(end)"] = f"is damaged at byte {last}: what follows is lost"
            return
        last = member.offset_data + member.size
        if last > size:
            unusable[member.name] = "is cut off with its shard"
            return
        if member.isfile():
            yield member
    file.seek(tar.offset)
    if any(file.read(BLOCK)):  # a tar ends with zeros
        unusable["(end)"] = f"is damaged at byte {tar.offset}: what follows is lost"


def _read(file: BinaryIO, member: tarfile.TarInfo) -> bytes:
    file.seek(member.offset_data)
    return file.read(member.size)


def _assign(
    samples: dict[str, _Sample],
    member: tarfile.TarInfo,
    read: Callable[[], bytes],
    unusable: dict[str, str],
) -> None:
    """Assign a member to its sample."""
    folder, slash, name = member.name.rpartition("/")
    stem, dot, suffix = name.partition(".")
    suffix = suffix.lower()
    if not stem or not dot or name.startswith("__"):  # hidden files, and webdataset's metadata
        return
    sample = samples.setdefault(f"{folder}{slash}{stem}", _Sample())
    if suffix in PICTURES:
        if sample.picture is None:
            sample.picture = member
        else:
            unusable[f"{member.name} (beside {sample.picture.name})"] = "is a second picture of its sample"
    elif suffix.rpartition(".")[2] in PICTURES:
        sample.seconds[suffix] = [member.offset_data, member.size]
    elif suffix in ("txt", "json", "cls"):
        if member.size > LARGEST_CAPTION:
            sample.fault = f"{member.name} is too large for a text: {member.size} bytes"
            return
        try:
            _annotate(sample, suffix, read(), member.name)
        except (BrokenCaptionError, ValueError) as error:
            sample.fault = str(error)


def _annotate(sample: _Sample, suffix: str, data: bytes, name: str) -> None:
    """Read the caption or class of a sample from a text member. BrokenCaptionError or ValueError if it is invalid."""
    text = decode_text(data, name)
    if suffix == "txt":
        sample.caption = clean_caption(text, name)
    elif suffix == "cls":
        sample.label = read_whole(text, f"the class in {name}", 0, MAX_CLASSES - 1)
    else:
        try:
            values = parse_json(text, name)
        except InputError:
            raise ValueError(f"{name} is not JSON") from None
        if not isinstance(values, dict):
            return
        several = values.get("captions")
        if isinstance(several, list):
            if not all(isinstance(one, str) for one in several):
                raise ValueError(f'{name} holds "captions" that are no text, expected a list of strings')
            sample.several = [clean_caption(one, name) for one in several]
        caption = values.get("caption") or values.get("text")
        if isinstance(caption, str) and sample.caption is None:
            sample.caption = clean_caption(caption, name)


def _add(index: ShardIndex, key: str, sample: _Sample) -> None:
    if sample.picture is None:
        index.unusable[key] = "has no picture"
        return
    name = sample.picture.name
    if sample.fault:
        index.faults[name] = sample.fault
    index.names.append(name)
    index.offsets.append(sample.picture.offset_data)
    index.sizes.append(sample.picture.size)
    index.captions.append(sample.several[0] if sample.several else sample.caption)
    if sample.seconds:
        index.seconds[name] = sample.seconds
    if len(sample.several) > 1:
        index.several[name] = sample.several
    index.labels.append(sample.label)
