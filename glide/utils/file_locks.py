"""Claims on the names of outputs and on folders, so that nothing of one process is lost to another.

A number is claimed by exclusive creation: the file is written whole under a name of its own, and then takes the name
`00000.png` only where nobody else has. What a run has written is named when a signal or an error ends it. A training
locks its folder.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from glide.utils.atomic_write import cannot_write, temporary_name
from glide.utils.errors import InputError, NameTaken, reason_of, warn
from glide.utils.json_files import as_table, parse_json
from glide.utils.printable import say

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NUMBERED = re.compile(r"(?:grid-)?(\d{5,15})(?:-\d+)?\.(?:png|gif)")
MOST_RANGES = 8  # that a sentence names

Write = Callable[[Path], object]
"""Writes an output at a path, whole or not at all; NameTaken, and nothing is changed, where that is taken."""


def next_number(folder: Path) -> int:
    """One more than the highest number of a picture in the folder, 0 in an empty one."""
    numbers = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
    return max(numbers, default=-1) + 1


class NumberedOutputs:
    """The pictures that a run adds to a folder, as 00000.png, 00001.png, ...: the next numbers that are free.

    Within it as a context, an error or a signal that ends the run names the pictures that are there.
    """

    def __init__(self, folder: str | Path) -> None:
        """InputError for a folder that cannot be made or written to, before the work begins."""
        self.folder = ready_folder(folder)
        self.paths: list[Path] = []
        self._held: list[Path] = []
        self._next: int | None = None

    def add(self, write: Write, suffix: str = "") -> Path:
        """Write the next picture; returns its path, 00000.png.

        suffix: of a picture that another will be made of, such as "-64": it is 00000-64.png, and its number is held for
        the other one, for which `complete` is called.
        """
        if self._next is None:
            self._next = next_number(self.folder)
        while True:
            path = self.folder / f"{self._next:05d}.png"
            try:
                write(path)
                break
            except NameTaken:  # by another run; the listing shows how far it has come
                self._next = max(self._next + 1, next_number(self.folder))
        self._next += 1
        if suffix:
            self._held.append(path)
            path = path.with_name(f"{path.stem}{suffix}.png")
            write(path)
        self.paths.append(path)
        return path

    def complete(self, path: Path, write: Write) -> Path:
        """Write the picture whose number was held for it when `path`, 00000-64.png, was written; returns its path."""
        held = self._held[[other.stem for other in self._held].index(path.stem.partition("-")[0])]
        write(held)
        self._held.remove(held)
        self.paths.append(held)
        return held

    def __enter__(self) -> NumberedOutputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for path in self._held:
            with suppress(OSError):
                path.unlink()
        self._held = []
        if kind is not None:
            report_written(self.paths)


def ready_folder(out: str | Path) -> Path:
    """The output folder, made and seen to be writable before the work begins. InputError where it is not."""
    path = Path(out)
    probe = temporary_name(path / "writable")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"cannot write to {out} ({reason_of(error)}): choose another folder by --out"
        ) from error
    return path


@contextmanager
def report_when_stopped(paths: Sequence[Path]) -> Iterator[None]:
    """Within: an error or a signal that ends the work names those of `paths`, filled on the way, that are there."""
    try:
        yield
    except BaseException:
        report_written(paths)
        raise


def report_written(paths: Sequence[Path]) -> None:
    """One line on stderr for a run that ended early, where any of its outputs is there."""
    there = [path for path in paths if path.exists()]
    if there:
        where = there[0].parent.resolve()
        say(f"written before the end: {count(there)} in {where}: {names(there)}", sys.stderr)


def check_free(path: str | Path, overwrite: bool) -> None:
    """InputError where an output's name is a folder's, or a file's and `overwrite` is not asked for; nothing is made.

    For before the work; `write_beside` is for after it.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"got the output {path}, which is a folder, expected a file: add a name to it")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: give another name, or --overwrite")


def check_new_folder(path: Path) -> None:
    """InputError where the folder that --out is to make is there already, whatever it holds."""
    if path.exists():
        raise InputError(f"{path} exists already: give a new folder by --out, or remove it")


def write_beside(path: Path, write: Write) -> Path:
    """Write an output that took its time, where its name may have been taken meanwhile: then under the next free one.

    Returns its path, `path` or `name (2).png`, with a warning for the latter.
    """
    for number in range(1, 1000):
        place = path if number == 1 else path.with_name(f"{path.stem} ({number}){path.suffix}")
        try:
            write(place)
        except NameTaken:
            continue
        if number > 1:
            warn(f"{path} was written by another program meanwhile: this result is {place}")
        return place
    raise NameTaken(f"{path} and 998 more names are taken: give another name, or --overwrite")


class FolderLock:
    """A lock file in a folder, with the process that holds it: one process at a time works there.

    The system's own lock on the file ends with the process, however that ends, so a file that was left behind is taken
    over. Where there is no such lock, the file counts as long as its process lives on this machine. A file that another
    machine left behind counts until it is removed: nobody here can see whether that process lives.
    """

    def __init__(self, path: Path, busy: str) -> None:
        """path: of the lock file. busy: the sentence for a lock that is held; {holder} is replaced in it."""
        self.path, self.busy = path, busy
        self._file = -1

    def __enter__(self) -> FolderLock:
        """InputError where another process holds it, or it cannot be written. Makes the folder where there is none."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            while self._file < 0:
                self._try()
            os.truncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            os.write(self._file, json.dumps(_this_process()).encode())
        except OSError as error:
            self._close()
            raise cannot_write(self.path, error) from error
        return self

    def __exit__(self, *error: object) -> None:
        if fcntl is None:  # Windows removes no file that is open
            self._close()
        with suppress(OSError):
            self.path.unlink()  # before it is let go: whoever opened it meanwhile sees that it is no longer the one
        self._close()

    def _try(self) -> None:
        """Open and lock the file; another round where it was removed meanwhile."""
        new = not self.path.exists()
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | (os.O_EXCL if new else 0), 0o644)
        except (FileExistsError, PermissionError):
            if not new:
                raise
            return  # another process was first
        free = _lock(self._file)
        holder = _read_holder(self._file)
        mine = holder.get("host") in (None, socket.gethostname())
        if free is False or not mine or (free is None and not new and _lives(holder)):
            self._close()
            said = f"process {holder.get('pid', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
            more = "" if mine else f" (where it has ended, remove {self.path})"
            raise InputError(self.busy.format(holder=said) + more)
        if not self.path.exists() or not os.path.samestat(os.fstat(self._file), os.stat(self.path)):
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def _lock(file: int) -> bool | None:
    """Lock an open file for this process: False where another holds it, None where the system has no such lock."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a network file system without locks
        return None
    return True


def _read_holder(file: int) -> dict[str, Any]:
    try:
        os.lseek(file, 0, os.SEEK_SET)
        return as_table(parse_json(os.read(file, 10_000), "the lock"), "the lock")
    except InputError:  # just made, or not written by this toolkit
        return {}


def _this_process() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "started": _started(os.getpid()),
    }


def _lives(holder: dict[str, Any]) -> bool:
    """True while the process that a lock names still runs: its number may be another's by now."""
    pid = holder.get("pid")
    if os.name == "nt":  # where a signal of number 0 is Ctrl-C
        return True
    if not isinstance(pid, int) or isinstance(pid, bool) or pid < 1:
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # of another user
        pass
    return holder.get("started") == _started(pid)


def _started(pid: int) -> str | None:
    """The start of a process, in a form that no other process of its number shares; None where the system hides it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
    return f"{boot} {ticks}"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Within: no other process is in such a context of the same folder; others wait. Nothing is written for it.

    Where the system has no locks on folders, it does nothing.
    """
    try:
        opened = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        yield
        return
    try:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)


def count(paths: Sequence[object]) -> str:
    return f"{len(paths)} picture{'s' if len(paths) != 1 else ''}"


def names(paths: Sequence[Path]) -> str:
    """The names of outputs of one folder in one line: of numbers that follow each other, the first and the last."""
    ranges: list[list[Path]] = []
    for path in paths:
        if ranges and _follows(ranges[-1][-1], path):
            ranges[-1].append(path)
        else:
            ranges.append([path])
    if len(ranges) > MOST_RANGES:
        return f"{paths[0].name} to {paths[-1].name}, among files of other runs"
    spans = (part[0].name if len(part) == 1 else f"{part[0].name} to {part[-1].name}" for part in ranges)
    return ", ".join(spans)


def _follows(before: Path, path: Path) -> bool:
    """True for two names that differ by one in their number and in nothing else: 00004-64.png and 00005-64.png."""
    first, second = NUMBERED.fullmatch(before.name), NUMBERED.fullmatch(path.name)
    if first is None or second is None or int(second[1]) != int(first[1]) + 1:
        return False
    return before.name.replace(first[1], second[1], 1) == path.name
