"""The pictures that a data set's pictures are learned with: semantic maps, edges, damaged versions (`--condition`).

N pictures, c stored channels, H W pixels.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glide.data.folder_index import FolderIndex
from glide.data.picture_table import PictureTable
from glide.data.shards.dataset import Shards
from glide.networks.picture_conditions import PictureCondition, condition_named, cut_condition, kind_names
from glide.shapes.render import label_maps
from glide.shapes.scene import SHAPES, Scene
from glide.utils.errors import InputError
from glide.utils.filesystem import join, list_files, read_bytes
from glide.utils.image_files import LARGEST_FILE, SUFFIXES, decode_picture, open_picture
from glide.utils.picture_size import Size

Stored = FolderIndex | Shards | PictureTable
"""Stored pictures, by index."""
DEFAULT_KIND = "image:3"
"""The kind of a folder that is given without one."""
FORM = re.compile(r"(?P<spec>[A-Za-z][\w.-]*(?::[^=/\\]*)?)=(?P<place>.+)")


@dataclass(frozen=True)
class ConditionArgument:
    """One `--condition`: "KIND=FOLDER", "FOLDER" for pictures of three channels, "KIND" for what pictures hold."""

    spec: str
    """Of `glide.networks.picture_conditions.condition_named`."""
    place: str | None
    """A folder with a partner of each picture, or the ending of their files in shards; None: the picture itself."""

    @classmethod
    def parse(cls, text: str) -> ConditionArgument:
        """InputError for an unknown kind."""
        match = FORM.fullmatch(text)
        if match is not None and match["spec"].partition(":")[0] in kind_names():
            return cls(match["spec"], match["place"])
        if text.partition(":")[0] in kind_names():
            return cls(text, None)
        if not text.strip():
            raise InputError(f"got the condition {text!r}, expected KIND=FOLDER, FOLDER or KIND: give one")
        return cls(DEFAULT_KIND, text)


class Partners(Protocol):
    """The files of one condition, one for each picture of a source."""

    def read(self, index: int) -> bytes:
        """InputError if it cannot be read."""

    def name(self, index: int) -> str: ...


class FolderPartners:
    """Files of a folder with the names of a source's pictures, whatever their endings."""

    def __init__(self, source: FolderIndex, folder: str) -> None:
        self.folder, self._found = folder, Stems(folder)
        self._names = [self._found.partner(name) for name in source.images]

    def missing(self) -> dict[int, str]:
        """Pictures without a partner, by index, with the reason."""
        reason = f"has no partner in {self.folder}"
        return {index: reason for index, name in enumerate(self._names) if name is None}

    def name(self, index: int) -> str:
        name = self._names[index]
        assert name is not None
        return join(self.folder, name)

    def read(self, index: int) -> bytes:
        return read_bytes(self.name(index), LARGEST_FILE)


class Stems:
    """The pictures of a folder by their names without endings, in any case and any Unicode form."""

    def __init__(self, folder: str) -> None:
        names = [name for name in list_files(folder) if name.lower().endswith(SUFFIXES)]
        if not names:
            raise InputError(
                f"{folder} holds no pictures, expected one of the name of each picture that is learned: give another "
                "folder"
            )
        self._exact = set(names)
        self._by_stem: dict[str, list[str]] = {}
        for name in names:
            self._by_stem.setdefault(_stem(name), []).append(name)

    def partner(self, name: str) -> str | None:
        """The file of that name, else the only one of that name with another ending."""
        if name in self._exact:
            return name
        near = self._by_stem.get(_stem(name), [])
        return near[0] if len(near) == 1 else None


class ShardPartners:
    """Second files of the samples of shards, by their ending: ".map.png" for 00012.map.png beside 00012.jpg."""

    def __init__(self, source: Shards, ending: str) -> None:
        self.source, self.ending = source, ending.lstrip(".").lower()
        if not f".{self.ending}".endswith(SUFFIXES) or "." not in self.ending:
            raise InputError(
                f"got the files {ending!r} of shards, expected the ending of a second picture: write for example "
                "map:9=.map.png"
            )

    def missing(self) -> dict[int, str]:
        reason = f"has no .{self.ending} beside it"
        there = (self.source.has_second(index, self.ending) for index in range(len(self.source)))
        return {index: reason for index, found in enumerate(there) if not found}

    def name(self, index: int) -> str:
        return f"{self.source.name(index)} (.{self.ending})"

    def read(self, index: int) -> bytes:
        return self.source.read_second(index, self.ending)


@dataclass(frozen=True)
class StoredCondition:
    """A condition of stored pictures. partners: None where it is made from the picture itself."""

    kind: PictureCondition
    partners: Partners | None

    def cut(
        self, index: int, picture: Image.Image, size: Size, x: float, y: float, share: float
    ) -> NDArray[np.uint8]:
        """The condition [H,W,c] of one picture, of which that part is learned. InputError for a broken file.

        picture: as it was decoded.
        """
        if self.partners is None:
            return self.kind.read(cut_condition(picture, self.kind, size, x, y, share))
        name = self.partners.name(index)
        partner = decode_condition(self.partners.read(index), name, self.kind)
        if not _alike(partner.size, picture.size):
            (w, h), (w0, h0) = partner.size, picture.size
            raise InputError(
                f"has the partner {name} of {w}x{h}, expected the shape of the picture, {w0}x{h0}: make it again"
            )
        try:
            return self.kind.read(cut_condition(partner, self.kind, size, x, y, share))
        except InputError as error:
            raise InputError(f"has a partner, {name}, that {error}") from error


def pair(source: Stored, arguments: Sequence[ConditionArgument]) -> tuple[Stored, list[StoredCondition]]:
    """A source's pictures that have all conditions, and these. Others become its `problems`. InputError if none has."""
    lacking: dict[str, str] = {}
    for argument in arguments:
        partners = _partners(source, argument)
        if partners is not None:
            lacking |= {source.name(index): reason for index, reason in partners.missing().items()}
    if lacking and len(lacking) == len(source):
        raise InputError(
            f"no picture in {source.folder} has its condition (the first {next(iter(lacking.values()))}), expected one "
            "of the same name for each: give another folder"
        )
    if lacking:
        source = with_problems(source.only(lambda name: name not in lacking), lacking)
    return source, [
        StoredCondition(condition_named(argument.spec), _partners(source, argument)) for argument in arguments
    ]


def with_problems(source: Stored, problems: Mapping[str, str]) -> Stored:
    """A source with further pictures that cannot be used, which are not among its pictures."""
    if isinstance(source, FolderIndex):
        return replace(source, problems={**source.problems, **problems})
    source.problems |= problems
    return source


def decode_condition(data: bytes, name: str, kind: PictureCondition) -> Image.Image:
    """The picture in a file's bytes; as stored where its pixels cannot be averaged. InputError as `decode_picture`."""
    if not kind.nearest:
        return decode_picture(data, name)[0]
    with open_picture(data, name) as image:
        image.load()
        return image.copy()


def of_scenes(
    kind: PictureCondition, scenes: Sequence[Scene], images: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """The conditions [N,c,H,W] of built-in scenes, drawn as images [N,H,W,3]: maps of their shapes, or of the pictures.

    Classes of a map are 0 for the background, then the shapes in the order of `glide.shapes.scene.SHAPES`.
    """
    if kind.name == "map":
        if getattr(kind, "classes", 0) != len(SHAPES) + 1:
            raise InputError(
                f"got a map of {getattr(kind, 'classes', 0)} classes for the built-in scenes, expected "
                f"{len(SHAPES) + 1}, the background and {len(SHAPES)} shapes: write map:{len(SHAPES) + 1}"
            )
        return label_maps(scenes, images.shape[1])[:, None]
    rows = [kind.read(Image.fromarray(image)) for image in images]
    return np.stack(rows).transpose(0, 3, 1, 2)


def check_arguments(arguments: Sequence[ConditionArgument], generated: bool) -> None:
    """InputError for a condition that the data cannot have."""
    for argument in arguments:
        kind = condition_named(argument.spec)
        if generated and argument.place is not None:
            raise InputError(
                f"got the folder {argument.place} of conditions for the built-in scenes, expected none: write "
                f"--condition {argument.spec}"
            )
        if not generated and argument.place is None and not kind.from_picture:
            raise InputError(
                f"got --condition {argument.spec}, which no picture holds, expected a folder with one for each: write "
                f"--condition {argument.spec}=FOLDER"
            )


def _partners(source: Stored, argument: ConditionArgument) -> FolderPartners | ShardPartners | None:
    if argument.place is None:
        return None
    if isinstance(source, Shards):
        return ShardPartners(source, argument.place)
    if isinstance(source, PictureTable):
        raise InputError(
            f"got the folder {argument.place} of conditions for {source.folder}, whose pictures are no files, expected "
            "a folder of pictures or shards: save the pictures as files first"
        )
    return FolderPartners(source, argument.place)


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """True for sizes of one shape, as far as whole pixels allow."""
    (w, h), (w0, h0) = one, other
    return abs(w * h0 - w0 * h) <= max(w + h, w0 + h0)


def _stem(name: str) -> str:
    path = PurePosixPath(unicodedata.normalize("NFC", name))
    return str(path.with_suffix("")).casefold()
