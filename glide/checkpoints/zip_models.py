"""Models in zip files: checked, and unpacked into a folder of the cache. Nothing in them is run or unpickled.

Only the kinds of files that a model consists of are unpacked (`SUFFIXES`), so whatever else a zip holds stays in it. A
zip with a path outside its folder, a link, a name twice, or more bytes than fit is refused as a whole.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.errors import InputError, reason_of
from glide.utils.filesystem import CHUNK, check_regular
from glide.utils.numbers import shown_number
from glide.utils.printable import few
from glide.utils.process_cache import process_cache

SUFFIXES = {".json", ".safetensors", ".txt", ".model"}
"""Of files that are unpacked: settings, weights, vocabularies."""
MARKS = ("config.json", "model_index.json")
"""Either is in the folder of a model."""
MAX_FILES = 10_000
MAX_BYTES = 2**37
"""Limit on all files together, 128 GiB."""
MAX_SETTINGS = 2**28
"""Limit on a file that holds no weights."""
MAX_RATIO, FREE_BYTES = 50, 2**28
"""Times its size that a zip may grow, beyond so many bytes: weights hardly shrink."""
DEPTH = 2
"""Folders below that of the model, as in upsampler/first_stage/."""
MARGIN = 2**26
"""Bytes of the disk that stay free."""


def is_zip(name: str | Path) -> bool:
    """True for the name of a zip file that is there."""
    return Path(name).suffix.lower() == ".zip" and Path(name).is_file()


def unpacked(path: str | Path) -> Path:
    """The folder of the model in a zip file, unpacked if needed.

    It is in $GLIDE_CACHE by the SHA-256 of the zip; without that variable in a temporary folder, which this process
    removes at its end. InputError for a zip that is damaged, cut short, hostile, too large, or without a model.
    """
    path = Path(path)
    check_regular(path)
    folder = process_cache() / "zips" / _digest(path)
    if not folder.is_dir():
        _unpack(path, folder)
    return folder


def check_members(file: zipfile.ZipFile, path: Path) -> dict[str, zipfile.ZipInfo]:
    """The files to unpack, by their paths below the model's folder. InputError as `unpacked`."""
    members = [one for one in file.infolist() if not one.is_dir()]
    if len(members) > MAX_FILES:
        raise InputError(
            f"got {path} with {len(members)} files, expected at most {MAX_FILES}: give a model's own files"
        )
    for one in file.infolist():
        _check_name(one, path)
    names = [one.filename.casefold() for one in members]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(
            f"got {path} with two files {shown_number(twice)}, expected each name once: zip it again"
        )
    root = _root([one.filename for one in members], path)
    found = {}
    for one in members:
        name = one.filename.removeprefix(root)
        hidden = any(part.startswith(".") for part in name.split("/"))
        if one.filename.startswith(root) and not hidden and _is_wanted(name):
            found[name] = one
    _check_sizes(found, path)
    return found


def _is_wanted(name: str) -> bool:
    place = PurePosixPath(name)
    return place.suffix in SUFFIXES and len(place.parts) <= DEPTH + 1 and place.parts[0] != "checkpoints"


def _check_name(one: zipfile.ZipInfo, path: Path) -> None:
    """InputError for a member that leads out of the folder, or that is no plain file."""
    name = one.filename
    parts = name.rstrip("/").split("/")
    outside = name.startswith("/") or ".." in parts or "" in parts or "." in parts
    if outside or "\\" in name or re.match(r"[A-Za-z]:", name) or not name.isprintable():
        raise InputError(
            f"got {path} with a file named {shown_number(name)}, expected only names inside its folder: do not use "
            "this zip, or zip the model's folder again"
        )
    kind = stat.S_IFMT(one.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise InputError(
            f"got {path} with {shown_number(name)}, which is a link or a device, expected plain files: zip the files "
            "themselves"
        )
    if one.flag_bits & 1:
        raise InputError(
            f"got {path}, which is encrypted, expected a plain zip: unpack it, and give its folder"
        )


def _root(names: list[str], path: Path) -> str:
    """The folder of the model within the zip, with a slash at its end: the top, or the one folder with one."""
    if any(mark in names for mark in MARKS):
        return ""
    tops = {name.partition("/")[0] for name in names if name.count("/") == 1 and name.endswith(MARKS)}
    tops = {top for top in tops if any(f"{top}/{mark}" in names for mark in MARKS)}
    if len(tops) != 1:
        held = f"models in {few(sorted(tops), 3)}" if tops else "no model"
        raise InputError(
            f"got {path} with {held}, expected one model folder (config.json, model.safetensors): give another zip"
        )
    return f"{tops.pop()}/"


def _check_sizes(found: dict[str, zipfile.ZipInfo], path: Path) -> None:
    total, size = sum(one.file_size for one in found.values()), path.stat().st_size
    for name, one in found.items():
        if not name.endswith(".safetensors") and one.file_size > MAX_SETTINGS:
            raise InputError(
                f"got {path} with {shown_number(name)} of {one.file_size:,} bytes, expected at most {MAX_SETTINGS:,}: "
                "give a model's own files"
            )
    if total > MAX_BYTES or (total > FREE_BYTES and total > MAX_RATIO * size):
        raise InputError(
            f"got {path} of {size:,} bytes, which unpacks to {total:,}, expected a model, whose weights hardly shrink: "
            "do not use this zip"
        )


def _unpack(path: Path, folder: Path) -> None:
    """Unpack into a draft beside the folder, which then takes its name: it is whole, or not there."""
    draft = temporary_name(folder)
    try:
        with zipfile.ZipFile(path) as file:
            found = check_members(file, path)
            draft.mkdir(parents=True)
            _check_room(sum(one.file_size for one in found.values()), draft, path)
            for name, one in found.items():
                _write(file, one, draft / name)
        try:
            os.replace(draft, folder)
        except OSError:
            if not folder.is_dir():  # else another process was first
                raise
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"got {path}, which is no zip or is damaged or cut short ({reason_of(error)}): fetch it again"
        ) from error
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_room(needed: int, place: Path, path: Path) -> None:
    free = shutil.disk_usage(place).free
    if needed + MARGIN > free:
        raise InputError(
            f"got {path}, which unpacks to {needed:,} bytes, expected at least as much room beside {place.parent}, "
            f"where {free:,} are free: make room, or set GLIDE_CACHE to another disk"
        )


def _write(file: zipfile.ZipFile, one: zipfile.ZipInfo, target: Path) -> None:
    """Write one member; zipfile compares its checksum. BadZipFile for one that is longer than it says."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = one.file_size
    with file.open(one) as source, open(target, "xb") as out:
        while piece := source.read(CHUNK):
            left -= len(piece)
            if left < 0:
                raise zipfile.BadZipFile(f"{one.filename} is longer than it says")
            out.write(piece)
    if left:
        raise zipfile.BadZipFile(f"{one.filename} is shorter than it says")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]
