"""Read and list files of local paths and of blobfile's remote ones (gs://, az://, https:// of Azure)."""

from __future__ import annotations

import os
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from glob import glob
from pathlib import Path
from typing import Any, BinaryIO

from glide.utils.atomic_write import atomic_path
from glide.utils.errors import InputError, reason_of

CHUNK = 2**22  # bytes read at once from a file that may be large


LOCAL = re.compile(r"(?<![\w:/.\\~])(?:/(?:[^\s/'\"]+/)*[^\s/'\"]+|[A-Za-z]:[\\/][^\s'\"]+)")
"""An absolute path in a text, such as a command line."""


def is_remote(path: str | Path) -> bool:
    """True for a path of blobfile, not of the file system."""
    return str(path).startswith(("gs://", "az://", "https://"))


def join(folder: str, name: str) -> str:
    """The path of `name`, which has forward slashes, in a local or remote folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, *name.split("/"))


def read_bytes(path: str | Path, max_bytes: int | None = None) -> bytes:
    """The whole file. InputError if it cannot be read.

    max_bytes: limit on its bytes. With it, InputError also for a larger file, and for anything else than a regular
    file: a device or a pipe may never end.
    """
    if max_bytes is not None and not is_remote(path):
        check_regular(path, max_bytes)
    try:
        with _remote().BlobFile(str(path), "rb") if is_remote(path) else open(path, "rb") as file:
            data = bytes(file.read()) if max_bytes is None else _read_at_most(file, max_bytes + 1)
    except Exception as error:
        raise _cannot_read(path, error) from error
    if max_bytes is not None and len(data) > max_bytes:
        raise _too_large(path, len(data), max_bytes)
    return data


def _read_at_most(file: BinaryIO, size: int) -> bytes:
    """Up to `size` bytes, in chunks: a single read would allocate memory for all requested bytes."""
    pieces = []
    while size > 0 and (piece := file.read(min(size, CHUNK))):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def check_regular(path: str | Path, max_bytes: int = 2**63) -> None:
    """InputError for a local path that is no regular file, or one of more bytes than `most`.

    Called before a file is opened, as opening a pipe would wait for its writer.
    """
    size, _ = file_stamp(path)
    if not os.path.isfile(path):
        raise InputError(f"{path} is not a regular file: give the path of a file")
    if size > max_bytes:
        raise _too_large(path, size, max_bytes)


def _too_large(path: str | Path, size: int, max_bytes: int) -> InputError:
    return InputError(
        f"{path} has {size:,} bytes, expected at most {max_bytes:,}: check that it is the right file"
    )


@contextmanager
def open_binary(path: str | Path) -> Iterator[BinaryIO]:
    """Open a file for reading, sequentially or at random. InputError if it cannot be read, then or later."""
    try:
        with _remote().BlobFile(str(path), "rb") if is_remote(path) else open(path, "rb") as file:
            yield file
    except InputError:
        raise
    except Exception as error:
        raise _cannot_read(path, error) from error


def read_range(path: str | Path, offset: int, size: int) -> bytes:
    """`size` bytes from `offset` on, fewer at the end of the file. InputError if they cannot be read."""
    if not is_remote(path):
        return _read_local_range(path, offset, size)
    with open_binary(path) as file:
        file.seek(offset)
        return bytes(file.read(size))


def _read_local_range(path: str | Path, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # no buffer: reading ahead is not useful
            file.seek(offset)
            return file.read(size) or b""
    except Exception as error:
        raise _cannot_read(path, error) from error


class LocalFile:
    """A local file from which many threads read ranges; it is closed when the object is freed."""

    def __init__(self, path: str | Path) -> None:
        """InputError if it cannot be opened."""
        self.path = path
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise _cannot_read(path, error) from error
        weakref.finalize(self, os.close, self._file).atexit = False

    def read(self, offset: int, size: int) -> bytes:
        """As `read_range`."""
        if not hasattr(os, "pread"):  # Windows
            return _read_local_range(self.path, offset, size)
        try:
            return os.pread(self._file, size, offset)
        except OSError as error:
            raise _cannot_read(self.path, error) from error


def file_stamp(path: str | Path) -> tuple[int, str]:
    """The size of a file in bytes, and a stamp that changes when it is written. InputError if there is none."""
    try:
        if is_remote(path):
            found = _remote().stat(str(path))
            return int(found.size), f"{found.mtime} {found.version or ''}".strip()
        local = os.stat(path)
        return local.st_size, str(local.st_mtime_ns)
    except Exception as error:
        raise _cannot_read(path, error) from error


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file atomically. InputError if it cannot be written."""
    if not is_remote(path):
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
        return
    try:
        with _remote().BlobFile(str(path), "wb") as file:  # an object appears when it is closed
            file.write(data)
    except Exception as error:
        raise InputError(
            f"cannot write {path} ({reason_of(error)}): check the permission to write it"
        ) from error


def matching(pattern: str) -> list[str]:
    """The files that fit a pattern with *, ? or [...], sorted. InputError if they cannot be listed."""
    try:
        return sorted(_remote().glob(pattern) if is_remote(pattern) else glob(pattern))
    except Exception as error:
        raise _cannot_read(pattern, error) from error


def list_files(folder: str | Path) -> list[str]:
    """The names of all files below `folder`, sorted, relative to it, with forward slashes; no hidden ones.

    An empty folder is listed too, with a slash at its end (object stores have none). One pass over the folder.
    InputError if it does not exist or cannot be read.
    """
    folder = str(folder)
    try:
        if is_remote(folder):
            names = _walk_remote(folder.rstrip("/") + "/")
            found = bool(names)  # object stores have no empty folders
        else:
            names, found = _walk_local(folder), os.path.isdir(folder)
    except Exception as error:
        raise _cannot_read(folder, error) from error
    if not found:
        raise InputError(f"{folder} is no folder: give an existing folder or a blobfile path")
    return sorted(names)


def _walk_local(root: str) -> list[str]:
    """All files below a folder. Links to folders are followed last, and no folder twice, as links can form cycles."""
    names: list[str] = []
    folders: list[str] = [""]
    linked: list[str] = []
    walked: set[tuple[int, int]] = set()
    while folders or linked:
        prefix = (folders or linked).pop(0)
        path = os.path.join(root, *prefix.split("/")) if prefix else root
        try:
            found = os.stat(path)
            if (found.st_dev, found.st_ino) in walked:
                continue
            walked.add((found.st_dev, found.st_ino))
            with os.scandir(path) as entries:
                inside = sorted(entries, key=lambda entry: entry.name)
        except (FileNotFoundError, NotADirectoryError):
            continue  # just removed, or not a folder, which the caller reports
        if prefix and not inside:
            names.append(prefix)
        for entry in inside:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                (linked if entry.is_symlink() else folders).append(f"{prefix}{entry.name}/")
            elif entry.is_file() or entry.is_symlink():  # no pipes; a dangling link fails when it is read
                names.append(prefix + entry.name)
    return names


def _walk_remote(root: str) -> list[str]:
    names: list[str] = []
    base = ""
    for folder, folders, files in _remote().walk(root):
        base = base or folder  # the root in blobfile's spelling (https:// may become az://)
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = folder[len(base) :].strip("/")
        names += [f"{inside}/{name}".lstrip("/") for name in files if not name.startswith(".")]
    return names


@lru_cache(maxsize=1)
def _remote() -> Any:
    """blobfile, with a limit on its retries (by default there is none) and without its prints."""
    import blobfile

    return blobfile.create_context(retry_limit=5, log_callback=lambda message: None)


def _cannot_read(path: str | Path, error: Exception) -> InputError:
    return InputError(
        f"cannot read {path} ({reason_of(error)}): check the path and the permission to read it"
    )


def without_local_paths(value: Any) -> Any:
    """A JSON-able record with each absolute path in its texts made relative to the current folder, or cut to its name.

    A record that is published with a model must not reveal its author's folders.
    """
    if isinstance(value, Mapping):
        return {name: without_local_paths(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_local_paths(one) for one in value]
    if not isinstance(value, str):
        return value
    return _shown(value) if os.path.isabs(value) else LOCAL.sub(lambda match: _shown(match[0]), value)


def _shown(path: str) -> str:
    here = os.path.join(os.getcwd(), "")
    return path.removeprefix(here) if path.startswith(here) else re.split(r"[\\/]", path.rstrip("\\/"))[-1]
