"""What a data folder holds: pictures with captions or pictures in class folders, found from the names of its files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from glide.errors import InputError
from glide.paths import join, list_files, read_bytes

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff")
TABLES = {"captions.csv": ("file", "caption"), "metadata.jsonl": ("file_name", "text")}
LAYOUTS = "pictures with a .txt beside each, a captions.csv, a metadata.jsonl, or a folder for each class"


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

    def caption(self, index: int) -> str:
        """The caption of picture `index`, on one line. InputError if its file is unreadable or empty."""
        if self.captions is not None:
            return self.captions[index]
        assert self.caption_files is not None
        path = join(self.folder, self.caption_files[index])
        return _caption(_decode(read_bytes(path), path), path)

    def only(self, keep: list[int]) -> Listing:
        """The listing of some of its pictures."""

        def pick(values: list | None) -> list | None:
            return None if values is None else [values[i] for i in keep]

        return Listing(
            self.folder,
            [self.images[i] for i in keep],
            pick(self.captions),
            pick(self.caption_files),
            pick(self.labels),
            self.class_names,
        )


def list_folder(folder: str) -> Listing:
    """Find the pictures of a local or remote folder, and how they are captioned or classed, without opening them.

    InputError, with the file's name, if the folder is missing or empty, a caption is missing, a table names a file
    that is not there, or the layouts are mixed.
    """
    names = list_files(folder)
    files = set(names)
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    tables = [name for name in TABLES if name in files]
    if not images:
        raise InputError(f"{folder} holds no pictures ({' '.join(SUFFIXES)}): give {LAYOUTS}")
    texts = {name: name[: name.rindex(".")] + ".txt" for name in images}
    captioned = [name for name in images if texts[name] in files]
    if len(tables) > 1 or (tables and captioned):
        other = texts[captioned[0]] if captioned else tables[1]
        raise InputError(f"{folder} is captioned twice, by {tables[0]} and {other}: keep one of the two")
    if tables:
        return _from_table(folder, tables[0], files)
    if captioned:
        _check_captioned(folder, images, texts, files)
        return Listing(folder, images, caption_files=[texts[name] for name in images])
    return _from_classes(folder, names, images)


def _check_captioned(folder: str, images: list[str], texts: dict[str, str], files: set[str]) -> None:
    missing = [name for name in images if texts[name] not in files]
    if missing:
        raise InputError(
            f"{len(missing)} of {len(images)} pictures in {folder} have no caption, first {missing[0]}: "
            f"write {texts[missing[0]]} or remove the picture"
        )
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
    text = _decode(read_bytes(path), path)
    rows = list(_csv_rows(path, text) if table.endswith(".csv") else _jsonl_rows(path, text))
    if not rows:
        raise InputError(f"{path} has no rows: name a picture and its caption in each")
    images = [_inside(name) for name, _ in rows]
    missing = [name for name in images if name not in files]
    if missing:
        raise InputError(
            f"{path} names {len(missing)} files that are not there, first {missing[0]}: correct it"
        )
    return Listing(folder, images, captions=[caption for _, caption in rows])


def _csv_rows(path: str, text: str) -> Iterator[tuple[str, str]]:
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


def _jsonl_rows(path: str, text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path} line {number} is not JSON ({error}): correct it") from error
        yield _row(row, TABLES["metadata.jsonl"], f"{path} line {number}")


def _row(row: object, columns: tuple[str, str], where: str) -> tuple[str, str]:
    values = [row.get(column) for column in columns] if isinstance(row, dict) else []
    if len(values) != 2 or not all(isinstance(value, str) for value in values):
        raise InputError(f"{where} lacks {columns[0]} or {columns[1]}: give both, as text")
    return str(values[0]), _caption(str(values[1]), where)


def _inside(name: str) -> str:
    """A table's file name as the listing spells it."""
    return str(PurePosixPath(name.replace("\\", "/")))


def _caption(text: str, where: str) -> str:
    caption = " ".join(text.split())
    if not caption:
        raise InputError(f"the caption in {where} is empty: write one or remove the picture")
    return caption


def _decode(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text ({error.reason}): save it as UTF-8") from error
