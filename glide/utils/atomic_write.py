"""Write files whole or not at all: to a temporary name in the same folder, then renamed."""

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

    The parent folder is made where it is missing. What stood at `path` before is untouched until the rename.
    replace: False never takes the place of a file that is there, not even of one that another process wrote just now.
    CannotWrite (an InputError) in one sentence when the folder cannot be written or no space is left; NameTaken, which
    is one too, where `replace` is False and the name is taken.
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
    """Write a text file, UTF-8, whole or not at all; what is no UTF-8 (in names of files) is escaped.

    replace, errors: as of `atomic_path`.
    """
    with atomic_path(path, replace) as temporary:
        temporary.write_text(text, "utf-8", "backslashreplace")


def _take_name(temporary: Path, path: Path) -> bool:
    """Give a file that is whole the name `path` as well; False, and nothing is changed, where that is taken.

    Of several processes that try at once, one succeeds.
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
    """A hidden name beside `path` that nobody else uses."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")


def flush(path: Path) -> None:
    """Wait until the file's bytes are on the disk: a rename must not overtake them when the power goes."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def cannot_write(path: Path, error: Exception) -> CannotWrite:
    """The one sentence for an output that could not be written; other outputs of the run may have been."""
    return CannotWrite(
        f"{path} was not written ({reason_of(error)}): what bore this name before is as it was; make room, or choose "
        "another folder"
    )
