"""A folder of results: earlier results are kept unless --overwrite is given, and two runs never mix.

    results = Results(args.out, ("evaluate.md", "cfg*.png"), args.overwrite)  # before any work
    with results:
        write_text(results.path("evaluate.md"), table)

For a result that is one file: `glide.utils.file_locks.check_free` before the work, and
`glide.utils.file_locks.write_beside` after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path

from glide.utils.errors import InputError, reason_of
from glide.utils.file_locks import FolderLock, ready_folder
from glide.utils.printable import few

LOCK = "results.lock"
NAMED = 3  # files named in the error


class Results:
    """The files of one measurement in a folder; as a context, it locks the folder for this process."""

    def __init__(self, folder: str | Path, names: Sequence[str], overwrite: bool) -> None:
        """names: of all files that may be written, as patterns ("cfg*.png"). Nothing is made or changed yet.

        InputError if one of them exists already, unless `overwrite` is true.
        """
        self.folder, self.names, self.overwrite = Path(folder), tuple(names), overwrite
        busy = f"{folder} is in use by {{holder}}, which writes results there: wait for it, or give another --out"
        self._lock = FolderLock(self.folder / LOCK, busy)
        self._made = False
        self.check()

    def check(self) -> None:
        """InputError if there are results that must not be replaced, or the folder cannot be listed."""
        try:
            listed = [path.name for path in self.folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):  # `ready_folder` reports the latter
            return
        except OSError as error:
            raise InputError(
                f"cannot list {self.folder} ({reason_of(error)}): choose another folder by --out"
            ) from error
        there = sorted(name for name in listed if self._is_result(name))
        if there and not self.overwrite:
            raise InputError(
                f"{self.folder} already holds results ({few(there, NAMED)}): give another --out, or "
                "--overwrite to write over them"
            )

    def path(self, name: str) -> Path:
        """The path of a file to write. ValueError for a name that was not declared."""
        if not self._is_result(name):
            raise ValueError(f"{name} is none of {', '.join(self.names)}")
        return self.folder / name

    def _is_result(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.names)

    def __enter__(self) -> Results:
        """Make the folder and lock it. InputError if it cannot be written, or another process holds it."""
        self._made = not self.folder.exists()
        ready_folder(self.folder)
        self._lock.__enter__()
        try:
            self.check()  # another measurement may have ended in the meantime
        except InputError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.__exit__(*error)
        if self._made:
            with suppress(OSError):  # unless results are in it
                self.folder.rmdir()
