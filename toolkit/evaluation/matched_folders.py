"""Folders of pictures of the same captions, matched by the names of their files, for a comparison by people.

H W pixels.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from PIL import Image

from glide.utils.captions import encodable
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote, join, list_files, read_bytes
from glide.utils.image_files import LARGEST_FILE, READ, SUFFIXES, decode_picture, open_picture
from glide.utils.images import RECIPE
from glide.utils.json_files import as_table, parse_json
from glide.utils.printable import beginning, few

OTHER_OUTPUTS = re.compile(r"grid-\d{5,15}(-\d+)?|\d{5,15}-\d+")
"""Names that sample.py gives to grids, and to pictures before they were enlarged."""
NAMED = 3
"""Files named in a message."""
BLOCKS, NOISE = 8, 60.0
"""A damaged picture: blocks a side, and the deviation of its noise in levels of 0 to 255."""


@dataclass(frozen=True)
class Folders:
    """Two or more folders with pictures of the same names."""

    models: tuple[str, ...]
    """Name of each folder in the report: the last part of its path where that is unique."""
    files: tuple[Mapping[str, str], ...]
    """Path of each picture of each folder, by its name without ending; all folders have the same names."""
    captions: Mapping[str, str]
    """By name; empty where there are none."""

    @property
    def names(self) -> list[str]:
        return list(self.files[0])

    def only(self, names: Sequence[str]) -> Folders:
        """The folders with these names alone."""
        files = tuple({name: of[name] for name in names} for of in self.files)
        captions = {name: self.captions[name] for name in names} if self.captions else {}
        return Folders(self.models, files, captions)


def match(folders: Sequence[str], captions: Sequence[str] | None = None) -> Folders:
    """Find the pictures of all folders and their captions.

    captions: one for each name, in the order of the names; None takes those of the pictures' recipes, where they have
    one. InputError, in one sentence, for fewer than two folders, one that is given twice, missing partners, and
    captions that do not fit.
    """
    if len(folders) < 2:
        got = folders[0] if folders else "no folder"
        raise InputError(f"got {got}, expected at least two folders to compare: give one for each model")
    places = [folder if is_remote(folder) else os.path.realpath(folder) for folder in folders]
    for i, place in enumerate(places):
        if place in places[:i]:
            raise InputError(f"got the folder {folders[i]} twice, expected different ones: leave one out")
    files = [_pictures(folder) for folder in folders]
    for folder, found in zip(folders[1:], files[1:], strict=True):
        _check_partners(folders[0], files[0], folder, found)
    names = list(files[0])
    files = [{name: found[name] for name in names} for found in files]
    if captions is None:
        found_captions = _recorded(files, names)
    elif len(captions) != len(names):
        raise InputError(
            f"got {len(captions)} captions for {len(names)} pictures in {folders[0]}, expected one for each, in the "
            "order of their names: correct the file of captions"
        )
    else:
        found_captions = dict(zip(names, captions, strict=True))
    return Folders(_short(folders), tuple(files), found_captions)


def _pictures(folder: str) -> dict[str, str]:
    """Path of each picture by its name without ending. InputError for two of one name, or none at all."""
    found: dict[str, str] = {}
    for file in list_files(folder):
        if not file.lower().endswith(SUFFIXES):
            continue
        name = str(PurePosixPath(file).with_suffix(""))
        if name in found:
            raise InputError(
                f"{folder} holds {file} and {PurePosixPath(found[name]).name}, expected one picture of each name: "
                "remove one"
            )
        found[name] = join(folder, file)
    drawn = {name: path for name, path in found.items() if not OTHER_OUTPUTS.fullmatch(name)}
    if not drawn:
        raise InputError(f"{folder} holds no pictures, expected {READ} files: give a folder with some")
    return drawn


def _check_partners(first: str, a: Mapping[str, str], second: str, b: Mapping[str, str]) -> None:
    """InputError where one of two folders lacks pictures of the other."""
    for here, mine, there, theirs in ((first, a, second, b), (second, b, first, a)):
        missing = [name for name in mine if name not in theirs]
        if missing:
            raise InputError(
                f"{there} has no partner of {len(missing)} of the {len(mine)} pictures in {here} "
                f"({few(missing, NAMED)}), expected the same names in all folders: draw them too, or remove these"
            )


def _recorded(files: Sequence[Mapping[str, str]], names: Sequence[str]) -> dict[str, str]:
    """Captions of the pictures' recipes; empty where no picture has one. InputError where they differ or lack."""
    found: dict[str, str] = {}
    for name in names:
        for of in files:
            caption = recorded_caption(of[name])
            if caption and found.setdefault(name, caption) != caption:
                raise InputError(
                    f"{of[name]} was drawn from {beginning(repr(caption), 80)} and its partner from "
                    f"{beginning(repr(found[name]), 80)}, expected one caption: compare pictures of the same, or give "
                    "--captions"
                )
    missing = [name for name in names if name not in found]
    if found and missing:
        raise InputError(
            f"{len(missing)} of {len(names)} pictures have no caption in their recipes ({few(missing, NAMED)}), "
            "expected one for each: give all by --captions"
        )
    return found


def recorded_caption(path: str) -> str:
    """The caption in a picture's recipe; empty where it has none. InputError for a broken file."""
    with open_picture(read_bytes(path, LARGEST_FILE), path) as image:
        text = image.info.get(RECIPE) if image.format == "PNG" else None
    if not isinstance(text, str):
        return ""
    prompt = as_table(parse_json(text, where := f"the recipe in {path}"), where).get("prompt")
    return encodable(" ".join(prompt.split())) if isinstance(prompt, str) else ""


def _short(folders: Sequence[str]) -> tuple[str, ...]:
    last = [PurePosixPath(folder.rstrip("/") or folder).name or folder for folder in folders]
    unique = len(set(last)) == len(last)
    return tuple(last if unique else [folder.rstrip("/") or folder for folder in folders])


def digest(folders: Folders) -> str:
    """A hash of all pictures' bytes."""
    total = hashlib.sha256()
    for of in folders.files:
        for name, path in of.items():
            total.update(json.dumps(name).encode())
            total.update(hashlib.sha256(read_bytes(path, LARGEST_FILE)).digest())
    return total.hexdigest()


def data_uri(path: str, quality: int | None = None, damage_seed: int | None = None) -> str:
    """A picture as a data URI, without the file's name and metadata: an exact PNG, or WebP of `quality` 1 to 100.

    damage_seed: damage it, for a catch trial. Transparency becomes white. InputError for a broken file.
    """
    picture, _ = decode_picture(read_bytes(path, LARGEST_FILE), path)
    profile = picture.info.get("icc_profile")
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    if damage_seed is not None:
        picture = damaged(picture, damage_seed)
    picture.info = {}
    stream = io.BytesIO()
    colours = {"icc_profile": profile} if profile else {}
    if quality is None:
        picture.save(stream, "PNG", optimize=True, **colours)
    else:
        picture.save(stream, "WEBP", quality=quality, method=4, **colours)
    kind = "png" if quality is None else "webp"
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"


def damaged(picture: Image.Image, seed: int) -> Image.Image:
    """An RGB picture as a few blocks under strong noise, which nobody takes for the better one."""
    small = picture.resize((min(BLOCKS, picture.width), min(BLOCKS, picture.height)), Image.Resampling.BOX)
    pixels = np.asarray(small.resize(picture.size, Image.Resampling.NEAREST), np.float64)
    noise = np.random.default_rng((seed, 0xDA3A6E)).normal(0.0, NOISE, pixels.shape)
    return Image.fromarray((pixels + noise).round().clip(0, 255).astype(np.uint8), "RGB")
