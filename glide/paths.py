"""Local paths and blobfile's remote ones (gs://, az://, https:// of Azure), read and listed alike."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from glide.errors import InputError


def is_remote(path: str | Path) -> bool:
    """Whether blobfile, not the file system, knows this path."""
    return str(path).startswith(("gs://", "az://", "https://"))


def join(folder: str, name: str) -> str:
    """The path of `name`, which has forward slashes, in a local or remote folder."""
    return f"{folder.rstrip('/')}/{name}" if is_remote(folder) else os.path.join(folder, *name.split("/"))


def read_bytes(path: str | Path) -> bytes:
    """The whole file. InputError if it cannot be read."""
    try:
        if is_remote(path):
            with _remote().BlobFile(str(path), "rb") as file:
                return bytes(file.read())
        return Path(path).read_bytes()
    except Exception as error:
        raise _cannot_read(path, error) from error


def list_files(folder: str | Path) -> list[str]:
    """The names of all files below `folder`, sorted, relative to it, with forward slashes; no hidden ones.

    An empty folder is listed too, with a slash at its end (object stores have none). One pass
    over the folder. InputError if it does not exist or cannot be read.
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
    names = []
    for folder, folders, files in os.walk(root, followlinks=True, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = os.path.relpath(folder, root).replace(os.sep, "/") + "/"
        prefix = "" if inside == "./" else inside
        names += [prefix + name for name in files if not name.startswith(".")]
        if prefix and not folders and not files:
            names.append(prefix)
    return names


def _walk_remote(root: str) -> list[str]:
    names: list[str] = []
    base = ""
    for folder, folders, files in _remote().walk(root):
        base = base or folder  # the root as blobfile spells it (https:// may become az://)
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = folder[len(base) :].strip("/")
        names += [f"{inside}/{name}".lstrip("/") for name in files if not name.startswith(".")]
    return names


def _raise(error: OSError) -> None:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return  # the caller says that there is no folder
    raise error


@lru_cache(maxsize=1)
def _remote() -> Any:
    """blobfile, with an end to its retries (by default it tries for ever) and without its prints."""
    import blobfile

    return blobfile.create_context(retry_limit=5, log_callback=lambda message: None)


def _cannot_read(path: str | Path, error: Exception) -> InputError:
    reason = (
        getattr(error, "strerror", None) or str(error).strip().split("\n")[0][:300] or type(error).__name__
    )
    return InputError(f"cannot read {path} ({reason}): check the path and the permission to read it")
