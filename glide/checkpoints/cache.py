"""The cache of published models: $GLIDE_CACHE, or a folder of the user; one process at a time fetches a model into it.

models/NAME/    a converted model: config.json, model.safetensors, tokenizer.json
files/          files as they were published: fetched, half fetched (.part), or put there by hand
locks/          files that say who is fetching
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from glide.checkpoints.model_folder import CONFIG, WEIGHTS
from glide.utils.atomic_write import temporary_name
from glide.utils.errors import InputError, reason_of
from glide.utils.printable import say

VARIABLE = "GLIDE_CACHE"
PARTS = (".part", ".part.json")
"""Endings of a file that is only half there, and of the record of where it comes from."""
WAITING = 0.2  # seconds until a process says that it waits for another


def cache_folder() -> Path:
    """The folder of the cache: $GLIDE_CACHE, else the usual place of a user's caches. It may not be there yet."""
    own = os.environ.get(VARIABLE)
    if own:
        return Path(own).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "glide"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glide"


def model_in_cache(name: str) -> Path:
    """The folder of a converted model, there or not."""
    return cache_folder() / "models" / name


def is_converted(folder: Path) -> bool:
    """True for a folder that holds a whole converted model; it appears by one rename."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def files_folder() -> Path:
    """The folder of the published files as they are, where a user may also put them."""
    return cache_folder() / "files"


@contextmanager
def locked(name: str, wait: bool = True) -> Iterator[None]:
    """A context that one process at a time can enter for a name; others wait, and say so.

    InputError where the cache cannot be written, or, without `wait`, where another process is in it.
    """
    place = cache_folder() / "locks" / f"{name}.lock"
    lock = FileLock(place)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=WAITING)
        except Timeout:
            if not wait:
                raise InputError(
                    f"got {name}, which another process is fetching, expected one that none uses: wait for its end"
                ) from None
            say(f"another process is fetching {name}: waiting for it")
            lock.acquire()
    except OSError as error:
        raise unwritable(error) from error
    try:
        yield
    finally:
        lock.release()


def unwritable(error: OSError) -> InputError:
    """The error for a cache that cannot be written."""
    return InputError(
        f"got the cache folder {cache_folder()}, which cannot be written ({reason_of(error)}), expected one that can: "
        f"give another by the environment variable {VARIABLE}"
    )


def check_writable() -> None:
    """Make the folders. InputError where the cache cannot be written."""
    try:
        for folder in (files_folder(), cache_folder() / "models"):
            folder.mkdir(parents=True, exist_ok=True)
            probe = temporary_name(folder / "writable")
            probe.touch()
            probe.unlink()
    except OSError as error:
        raise unwritable(error) from error


def check_disk(needed: int, what: str) -> None:
    """InputError, before a download, where the cache's disk has less room than `needed` bytes."""
    free = shutil.disk_usage(cache_folder()).free
    if needed > free:
        raise InputError(
            f"got {what}, which takes {megabytes(needed)} of disk to fetch and convert, expected what fits into the "
            f"{megabytes(free)} that are free in {cache_folder()}: make room, or set {VARIABLE} to another disk"
        )


def megabytes(count: int) -> str:
    """Bytes in words: "1,541 MB"."""
    if count < 1e3:
        return f"{count} bytes"
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


@dataclass(frozen=True)
class Entry:
    """One thing in the cache."""

    name: str
    """Of a model, or of a file."""
    words: str
    size: int
    """Bytes."""
    paths: tuple[Path, ...]
    """All that is removed with it."""


def entries() -> list[Entry]:
    """The converted models in the cache, then the published files that lie there, whole or in part."""
    found = []
    models, files = cache_folder() / "models", files_folder()
    for folder in sorted(models.iterdir()) if models.is_dir() else []:
        if folder.is_dir():
            words = "model" if is_converted(folder) else "left over from a conversion that was stopped"
            found.append(Entry(folder.name, words, _size(folder), (folder,)))
    for file in sorted(files.iterdir()) if files.is_dir() else []:
        if file.name.endswith(PARTS[1]):
            continue
        half = file.name.endswith(PARTS[0])
        paths = (file, file.with_name(file.name + ".json")) if half else (file,)
        words = "half fetched, to be continued" if half else "published file"
        found.append(Entry(file.name.removesuffix(PARTS[0]), words, _size(file), paths))
    return found


def remove(name: str) -> int:
    """Remove a model or a published file from the cache; returns the bytes that are free now.

    InputError where there is none of that name, another process is fetching it, or it cannot be removed.
    """
    there = entries()
    wanted = [entry for entry in there if entry.name == name]
    if not wanted:
        known = ", ".join(dict.fromkeys(entry.name for entry in there)) or "nothing"
        raise InputError(
            f"got {name!r}, expected one of what is in {cache_folder()} ({known}): check the name"
        )
    with locked(name, wait=False):
        try:
            for path in (path for entry in wanted for path in entry.paths):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(error) from error
    return sum(entry.size for entry in wanted)


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
