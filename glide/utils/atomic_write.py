"""Atomic writes: to a temporary name in the same folder, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glide.utils.errors import CannotWrite, NameTaken, reason_of


@contextmanager
def atomic_path(path: str | Path, replace: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it takes the name `path`, on any error it is removed.

    A missing parent folder is made. A file at `path` stays untouched until the rename. replace: False never replaces
    an existing file, not even one that another process has just written. CannotWrite (an InputError) in one sentence
    if the folder cannot be written or no space is left; NameTaken, a kind of it, if `replace` is False and the name is
    taken.
    """
    path = Path(path)
    temporary = temporary_name(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        if replace:
            os.replace(temporary, path)
        elif not _take_name(temporary, path):
            raise NameTaken(f"{path} exists already: give another name, or --overwrite")
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(path: str | Path, text: str, replace: bool = True) -> None:
    """Write a text file atomically as UTF-8; bytes that are not UTF-8 (in file names) are escaped.

    replace, errors: as of `atomic_path`.
    """
    with atomic_path(path, replace) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def _take_name(temporary: Path, path: Path) -> bool:
    """Rename a complete file to `path`; False, without a change, if that name is taken.

    If several processes try at once, one succeeds.
    """
    try:
        os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            return False
    try:
        os.replace(temporary, path)
    except OSError:
        path.unlink()
        raise
    return True


def temporary_name(path: Path) -> Path:
    """A unique hidden name beside `path`."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def flush(path: Path) -> None:
    """Wait until the file's bytes are on the disk: a rename must not precede them at a loss of power."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """The error for an output that could not be written; other outputs of the run may be complete."""
    return CannotWrite(
        f"{path} was not written ({reason_of(error)}): an earlier file of this name is unchanged; make room, or choose "
        "another folder"
    )
