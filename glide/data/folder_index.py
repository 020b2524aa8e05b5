"""Index of a data folder by its file names: pictures with captions, in class folders, or alone."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import PurePosixPath

import numpy as np

from glide.data.caption_tables import TABLES, read_table
from glide.utils.captions import LARGEST_FILE, BrokenCaptionError, clean_caption, decode_text, shown_name
from glide.utils.errors import InputError, warn
from glide.utils.filesystem import join, list_files, read_bytes
from glide.utils.image_files import LARGEST_FILE as LARGEST_PICTURE
from glide.utils.image_files import READ, SUFFIXES

UNREAD_SUFFIXES = (
    ".heic",
    ".heif",
    ".jxl",
    ".jp2",
    ".tga",
    ".ppm",
    ".pgm",
    ".psd",
    ".svg",
    ".eps",
    ".ico",
    ".exr",
    ".dng",
)
"""Suffixes of picture formats that are not read; such files are reported as left out."""
LAYOUTS = "pictures with a .txt beside each, a captions.csv, a metadata.jsonl, or a folder for each class"
TRAIN = ("train", "training")
SPLITS = (*TRAIN, "validation", "valid", "val", "dev", "test", "testing", "eval")
"""Names of folders that are splits of a data set, as in Hugging Face's imagefolder, and not classes."""


@dataclass(frozen=True)
class FolderIndex:
    """The pictures of a folder; at most one of `captions`, `caption_files` and `labels` is filled, for all pictures."""

    folder: str
    images: list[str]
    """Names relative to the folder, with forward slashes."""
    captions: list[str] | None = None
    caption_files: list[str] | None = None
    labels: list[int] | None = None
    class_names: tuple[str, ...] = ()
    problems: dict[str, str] = field(default_factory=dict)
    """Unusable files, which are not among the pictures, with the reason."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Pictures that no table names or whose format is not read, with the reason: reported, but not as damage."""

    lanes = 1  # all pictures are equally fast to read

    def __len__(self) -> int:
        return len(self.images)

    @property
    def captioned(self) -> bool:
        """True if every picture has a caption."""
        return self.captions is not None or self.caption_files is not None

    def name(self, index: int) -> str:
        return shown_name(self.images[index])

    def read(self, index: int) -> bytes:
        """The bytes of a picture file. InputError if it cannot be read."""
        return read_bytes(join(self.folder, self.images[index]), LARGEST_PICTURE)

    def caption(self, index: int) -> str:
        """The caption of picture `index`, on one line.

        InputError if its file cannot be read, BrokenCaptionError if it is empty or not text.
        """
        if self.captions is not None:
            return self.captions[index]
        assert self.caption_files is not None
        path = join(self.folder, self.caption_files[index])
        return clean_caption(decode_text(read_bytes(path, LARGEST_FILE), path), path)

    def every_caption(self, index: int) -> Sequence[str]:
        """The only caption of picture `index`. Errors as `caption`."""
        return (self.caption(index),)

    def label(self, index: int) -> int:
        """The class of picture `index`, an index into `class_names`."""
        assert self.labels is not None
        return self.labels[index]

    def order(self, seed: int, epoch: int) -> Sequence[int]:
        """The order of an epoch: every index once."""
        return np.random.default_rng((seed, epoch)).permutation(len(self))  # type: ignore[return-value]

    def only(self, keep: Callable[[str], bool]) -> FolderIndex:
        """The index of the pictures for whose names, as `name` returns them, `keep` is true."""
        indices = [i for i in range(len(self)) if keep(self.name(i))]

        def pick(values: list | None) -> list | None:
            return None if values is None else [values[i] for i in indices]

        return replace(
            self,
            images=[self.images[i] for i in indices],
            captions=pick(self.captions),
            caption_files=pick(self.caption_files),
            labels=pick(self.labels),
            problems={name: reason for name, reason in self.problems.items() if keep(name)},
            left_out={name: reason for name, reason in self.left_out.items() if keep(name)},
        )


def index_folder(folder: str, unconditional: bool = False) -> FolderIndex:
    """Find the pictures of a local or remote folder, and their captions or classes, without opening them.

    A picture without its caption file, and a row of a table without a caption or with a missing file, become `problems`
    of the index; a picture that no table names, or of a format that is not read, is `left_out`. In a folder of splits
    (`train`, `test` and the like), `train` is used.
    unconditional: take all pictures, without their annotations.
    InputError, with the file's name, if the folder is missing or empty, a table cannot be read, or the layouts are
    mixed.
    """
    names = list_files(folder)
    tables = any(name.lower() in TABLES for name in names)
    part = _training_split(folder, names)
    if part and not tables:  # a table would name files of all splits
        names = [name.removeprefix(part) for name in names if name.startswith(part)]
        folder, part = join(folder, part.rstrip("/")), ""
    images = [name for name in names if name.lower().endswith(SUFFIXES)]
    if not images:
        shards = any(name.lower().endswith(".tar") for name in names)
        advice = f"its shards are named {folder.rstrip('/')}/*.tar" if shards else f"give {LAYOUTS}"
        raise InputError(f"{folder} holds no pictures ({' '.join(SUFFIXES)}): {advice}")
    found = FolderIndex(folder, images) if unconditional else _annotated(folder, names, images)
    foreign = {
        shown_name(name): f"is of a format that is not read: give {READ}"
        for name in names
        if _is_unread(name)
    }
    found = replace(found, left_out={**foreign, **found.left_out})
    return found.only(lambda name: name.startswith(part)) if part else found


def _is_unread(name: str) -> bool:
    return name.lower().endswith(UNREAD_SUFFIXES)


def _training_split(folder: str, names: Sequence[str]) -> str:
    """The prefix "train/" if all pictures lie in folders named as splits of a data set, else "".

    InputError for splits without train. The splits may lie in another folder, as in "data/train/".
    """
    pictures = [name for name in names if name.lower().endswith(SUFFIXES)]
    parts = sorted({name.split("/")[0] if "/" in name else "" for name in pictures})
    if len(parts) == 1 and parts[0] and parts[0].lower() not in SPLITS:
        above = parts[0] + "/"
        inside = _training_split(join(folder, parts[0]), [n.removeprefix(above) for n in pictures])
        return inside and above + inside
    if not parts or not all(part.lower() in SPLITS for part in parts):
        return ""
    train = [part for part in parts if part.lower() in TRAIN]
    if len(train) != 1:
        raise InputError(
            f"{folder} holds the parts {', '.join(parts)}, expected train among them: give one of these folders itself"
        )
    others = sum(not name.startswith(train[0] + "/") for name in pictures)
    if others:
        kept = ", ".join(part for part in parts if part != train[0])
        warn(f"of {folder} the part {train[0]} is taken; {others} pictures in {kept} are left out")
    return train[0] + "/"


class FileNames:
    """The names of a folder's files, to be found in any case and any Unicode form."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)
        self._exact = set(self._names)

    def __contains__(self, name: str) -> bool:
        return name in self._exact

    def find(self, name: str, taken: Collection[str] = ()) -> str | None:
        """The file of this name, as spelled in the folder; None for no match, or several equally close ones.

        taken: files that belong to other pictures.
        """
        if name in self._exact:
            return name
        near = [one for one in self._by_folded.get(_folded(name), []) if one not in taken]
        for of in (_composed, _stem):
            near = [one for one in near if of(one) == of(name)] or near
        return near[0] if len(near) == 1 else None

    @cached_property
    def _by_folded(self) -> Mapping[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self._names:
            found.setdefault(_folded(name), []).append(name)
        return found


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _stem(name: str) -> str:
    return _composed(name).rpartition(".")[0]


def _annotated(folder: str, names: Sequence[str], images: list[str]) -> FolderIndex:
    """The index with captions or classes. InputError as `index_folder`."""
    files = FileNames(names)
    tables = [name for name in names if name.rsplit("/", 1)[-1].lower() in TABLES]
    texts = _caption_files(folder, images, files)
    of_folder: dict[str, str] = {}
    twice = next(((a, b) for b in tables if (a := of_folder.setdefault(_parent(b), b)) != b), None)
    if twice or (tables and texts):
        first, second = twice or (tables[0], next(iter(texts.values())))
        raise InputError(f"{folder} is captioned twice, by {first} and {second}: keep one of the two")
    if tables:
        return _from_tables(folder, tables, images, files)
    if texts:
        missing = {
            shown_name(name): f"has no caption: write {name[: name.rindex('.')]}.txt"
            for name in images
            if name not in texts
        }
        return FolderIndex(folder, list(texts), caption_files=list(texts.values()), problems=missing)
    return _from_classes(folder, names, images)


def _parent(name: str) -> str:
    return name.rpartition("/")[0]


def _caption_files(folder: str, images: Sequence[str], files: FileNames) -> dict[str, str]:
    """The .txt of each picture that has one, in the order of the pictures."""
    wanted = {name: name[: name.rindex(".")] + ".txt" for name in images}
    owner: dict[str, str] = {}
    for name, text in wanted.items():
        if text in files:
            if text in owner:  # a caption file belongs to one picture: x.png and x.jpg would share x.txt
                raise InputError(f"{folder}: {owner[text]} and {name} share one caption file: rename one")
            owner[text] = name
    for name, text in wanted.items():
        if text not in files and (found := files.find(text, owner)) is not None:  # A.TXT beside A.PNG
            owner[found] = name
    text_of = {name: text for text, name in owner.items()}
    return {name: text_of[name] for name in images if name in text_of}


def _from_classes(folder: str, names: Sequence[str], images: list[str]) -> FolderIndex:
    flat = next((name for name in images if "/" not in name), None)
    deep = next((name for name in images if name.count("/") > 1), None)
    if flat is not None:
        in_class = next((name for name in images if "/" in name), None)
        also = f" while {in_class} lies in a class folder" if in_class else ""
        raise InputError(
            f"{flat} in {folder} has no caption{also}: give {LAYOUTS}; without any of these a base model learns the "
            "pictures alone by --unconditional"
        )
    if deep is not None:
        raise InputError(
            f"{deep} in {folder} lies two folders deep: give the folder that holds the class folders"
        )
    folders = sorted({name.split("/")[0] for name in names if "/" in name})
    number = {name: i for i, name in enumerate(folders)}
    labels = [number[name.split("/")[0]] for name in images]
    empty = sorted(set(number.values()) - set(labels))
    if empty:  # leaving it out would change the numbers of the classes after it
        raise InputError(
            f"the class folder {folders[empty[0]]} in {folder} holds no pictures: fill or remove it"
        )
    return FolderIndex(folder, images, labels=labels, class_names=tuple(map(shown_name, folders)))


def _from_tables(
    folder: str, tables: Sequence[str], pictures: Sequence[str], files: FileNames
) -> FolderIndex:
    """The index of pictures from caption tables, which name files relative to their own folders."""
    images: list[str] = []
    captions: list[str] = []
    problems: dict[str, str] = {}
    named: set[str] = set()
    for table in tables:
        path, row = join(folder, table), None
        for row in read_table(path):
            wanted = _inside(_parent(table), row.file, files)
            image = files.find(wanted)
            named.add(image or wanted)
            if image is None:
                problems[shown_name(wanted)] = f"is not there, though {row.where} names it"
            elif not row.caption.split():
                problems[shown_name(image)] = f"has no caption: that in {row.where} is empty"
            else:
                try:
                    captions.append(clean_caption(row.caption, row.where))
                    images.append(image)
                except BrokenCaptionError as error:
                    problems[shown_name(image)] = str(error)
        if row is None:
            raise InputError(f"{path} has no rows: name a picture and its caption in each")
    by = tables[0] if len(tables) == 1 else "any table of captions"
    left_out = {shown_name(name): f"is not named in {by}" for name in pictures if name not in named}
    return FolderIndex(folder, images, captions=captions, problems=problems, left_out=left_out)


def _inside(parent: str, name: str, files: FileNames) -> str:
    """A table's file name in the spelling of the index."""
    whole = f"{parent}/{name}" if parent else name
    return whole if whole in files else str(PurePosixPath(whole.replace("\\", "/")))
