"""What a data folder holds: pictures with captions or pictures in class folders, found from the names of its files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

import numpy as np

from glide.errors import InputError
from glide.json_files import parse_json
from glide.paths import join, list_files, read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = {"captions.csv": ("file", "caption"), "metadata.jsonl": ("file_name", "text")}
LAYOUTS = "pictures with a .txt beside each, a captions.csv, a metadata.jsonl, or a folder for each class"


class BrokenCaptionError(InputError):
    """A caption that was read but is no text, or an empty one."""


@dataclass(frozen=True)
class Listing:
    """The pictures of a folder; of `captions`, `caption_files` and `labels`, one is filled, a value a picture."""

    folder: str
    images: list[str]
    """Names relative to the folder, with forward slashes."""
    captions: list[str] | None = None
    caption_files: list[str] | None = None
    labels: list[int] | None = None
    class_names: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """What cannot be used, and is not among the pictures, with the reason."""

    lanes = 1  # any picture is as far as any other

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images[index]

    def read(self, index: int) -> bytes:
        """The bytes of a picture file. InputError if it cannot be read."""
        return read_bytes(join(self.folder, self.images[index]))

    def caption(self, index: int) -> str:
        """The caption of picture `index`, on one line.

        InputError if its file cannot be read, BrokenCaptionError if it is empty or no text.
        """
        if self.captions is not None:
            return self.captions[index]
        assert self.caption_files is not None
        path = join(self.folder, self.caption_files[index])
        return clean_caption(decode_text(read_bytes(path), path), path)

    def every_caption(self, index: int) -> Sequence[str]:
        """The one caption of picture `index`. Errors as `caption`."""
        return (self.caption(index),)

    def label(self, index: int) -> int:
        """The class of picture `index`, a place in `class_names`."""
        assert self.labels is not None
        return self.labels[index]

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """The order of an epoch: every index once."""
        return np.random.default_rng((seed, epoch)).permutation(len(self))  # type: ignore[return-value]

    def only(self, keep: Callable[[str], bool]) -> Listing:
        """The listing of the pictures whose names `keep` takes."""
        indices = [i for i, name in enumerate(self.images) if keep(name)]

        def pick(values: list | None) -> list | None:
            return None if values is None else [values[i] for i in indices]

        return replace(
            self,
            images=[self.images[i] for i in indices],
            captions=pick(self.captions),
            caption_files=pick(self.caption_files),
            labels=pick(self.labels),
            problems={name: reason for name, reason in self.problems.items() if keep(name)},
        )


def list_folder(folder: str) -> Listing:
    """Find the pictures of a local or remote folder, and how they are captioned or classed, without opening them.

    A picture without its caption file, and a row of a table without a caption or whose file is not there, become
    `problems` of the listing. InputError, with the file's name, if the folder is missing or empty, a table cannot be
    read, or the layouts are mixed.
    """
    names = list_files(folder)
    files = set(names)
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    tables = [name for name in TABLES if name in files]
    if not images:
        shards = any(name.lower().endswith(".tar") for name in names)
        advice = f"its shards are named {folder.rstrip('/')}/*.tar" if shards else f"give {LAYOUTS}"
        raise InputError(f"{folder} holds no pictures ({' '.join(SUFFIXES)}): {advice}")
    texts = {name: name[: name.rindex(".")] + ".txt" for name in images}
    captioned = [name for name in images if texts[name] in files]
    if len(tables) > 1 or (tables and captioned):
        other = texts[captioned[0]] if captioned else tables[1]
        raise InputError(f"{folder} is captioned twice, by {tables[0]} and {other}: keep one of the two")
    if tables:
        return _from_table(folder, tables[0], files)
    if captioned:
        _check_owners(folder, captioned, texts)
        missing = {
            name: f"has no caption: write {texts[name]}" for name in images if texts[name] not in files
        }
        return Listing(folder, captioned, caption_files=[texts[n] for n in captioned], problems=missing)
    return _from_classes(folder, names, images)


def _check_owners(folder: str, images: list[str], texts: dict[str, str]) -> None:
    # a caption file belongs to one picture: x.png and x.jpg would share x.txt
    owner: dict[str, str] = {}
    for name in images:
        if texts[name] in owner:
            raise InputError(f"{folder}: {owner[texts[name]]} and {name} share one caption file: rename one")
        owner[texts[name]] = name


def _from_classes(folder: str, names: list[str], images: list[str]) -> Listing:
    flat = next((name for name in images if "/" not in name), None)
    deep = next((name for name in images if name.count("/") > 1), None)
    if flat is not None:
        in_class = next((name for name in images if "/" in name), None)
        also = f" while {in_class} lies in a class folder" if in_class else ""
        raise InputError(f"{flat} in {folder} has no caption{also}: give {LAYOUTS}")
    if deep is not None:
        raise InputError(
            f"{deep} in {folder} lies two folders deep: give the folder that holds the class folders"
        )
    class_names = sorted({name.split("/")[0] for name in names if "/" in name})
    number = {name: i for i, name in enumerate(class_names)}
    labels = [number[name.split("/")[0]] for name in images]
    empty = sorted(set(number.values()) - set(labels))
    if empty:  # to leave it out would number the classes after it anew
        raise InputError(
            f"the class folder {class_names[empty[0]]} in {folder} holds no pictures: fill or remove it"
        )
    return Listing(folder, images, labels=labels, class_names=tuple(class_names))


def _from_table(folder: str, table: str, files: set[str]) -> Listing:
    path = join(folder, table)
    text = decode_text(read_bytes(path), path)
    rows = list(_csv_rows(path, text) if table.endswith(".csv") else _jsonl_rows(path, text))
    if not rows:
        raise InputError(f"{path} has no rows: name a picture and its caption in each")
    images, captions = [], []
    problems: dict[str, str] = {}
    for name, caption, where in rows:
        image = _inside(name)
        if image not in files:
            problems[image] = f"is not there, though {where} names it"
        elif not caption.split():
            problems[image] = f"has no caption: that in {where} is empty"
        else:
            images.append(image)
            captions.append(clean_caption(caption, where))
    return Listing(folder, images, captions=captions, problems=problems)


def _csv_rows(path: str, text: str) -> Iterator[tuple[str, str, str]]:
    columns = TABLES["captions.csv"]
    reader = csv.DictReader(io.StringIO(text, newline=""))
    if not set(columns) <= set(reader.fieldnames or ()):
        raise InputError(
            f"{path} has the columns {reader.fieldnames}, expected file,caption: add that first line"
        )
    try:
        for row in reader:
            yield _row(row, columns, f"{path} line {reader.line_num}")
    except csv.Error as error:
        raise InputError(f"{path} line {reader.line_num} is not CSV ({error}): correct it") from error


def _jsonl_rows(path: str, text: str) -> Iterator[tuple[str, str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        yield _row(parse_json(line, where), TABLES["metadata.jsonl"], where)


def _row(row: object, columns: tuple[str, str], where: str) -> tuple[str, str, str]:
    """File, caption and where that was said."""
    values = [row.get(column) for column in columns] if isinstance(row, dict) else []
    if len(values) != 2 or not all(isinstance(value, str) for value in values):
        raise InputError(f"{where} lacks {columns[0]} or {columns[1]}: give both, as text")
    return str(values[0]), str(values[1]), where


def _inside(name: str) -> str:
    """A table's file name as the listing spells it."""
    return str(PurePosixPath(name.replace("\\", "/")))


def clean_caption(text: str, where: str) -> str:
    """The caption on one line. BrokenCaptionError if it is empty."""
    caption = " ".join(text.split())
    if not caption:
        raise BrokenCaptionError(f"the caption in {where} is empty: write one or remove the picture")
    return caption


def decode_text(data: bytes, path: str) -> str:
    """BrokenCaptionError for what is no text."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BrokenCaptionError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
