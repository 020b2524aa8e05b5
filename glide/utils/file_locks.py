"""Claims on output names and locks on folders, so that processes do not overwrite each other's files.

A number is claimed by exclusive creation: the file is written under a unique name, and then renamed to `00000.png` only
if that name is free. A run that is ended by a signal or an error reports the files that it has written. A training run
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
MAX_RANGES = 8  # named in a sentence

Write = Callable[[Path], object]
"""Writes an output at a path atomically; NameTaken, without a change, if that name is taken."""


def next_number(folder: Path) -> int:
    """One more than the highest number of a picture in the folder; 0 for an empty one."""
    numbers = [int(match[1]) for path in folder.iterdir() if (match := NUMBERED.fullmatch(path.name))]
    return max(numbers, default=-1) + 1


class NumberedOutputs:
    """The pictures that a run adds to a folder, as 00000.png, 00001.png, ...: the next free numbers.

    As a context, it reports the written pictures if an error or a signal ends the run.
    """

    def __init__(self, folder: str | Path) -> None:
        """InputError for a folder that cannot be made or written, before the work begins."""
        self.folder = ready_folder(folder)
        self.paths: list[Path] = []
        self._reserved: list[Path] = []
        self._next: int | None = None

    def add(self, write: Write, suffix: str = "") -> Path:
        """Write the next picture; returns its path, 00000.png.

        suffix: of an intermediate picture, such as "-64": it is 00000-64.png, and its number is reserved for the final
        picture, for which `complete` is called.
        """
        if self._next is None:
            self._next = next_number(self.folder)
        while True:
            path = self.folder / f"{self._next:05d}.png"
            try:
                write(path)
                break
            except NameTaken:  # by another run; the listing shows its progress
                self._next = max(self._next + 1, next_number(self.folder))
        self._next += 1
        if suffix:
            self._reserved.append(path)
            path = path.with_name(f"{path.stem}{suffix}.png")
            write(path)
        self.paths.append(path)
        return path

    def complete(self, path: Path, write: Write) -> Path:
        """Write the final picture of `path`, 00000-64.png, at its reserved number; returns its path."""
        final = self._reserved[[other.stem for other in self._reserved].index(path.stem.partition("-")[0])]
        write(final)
        self._reserved.remove(final)
        self.paths.append(final)
        return final

    def __enter__(self) -> NumberedOutputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        for path in self._reserved:
            with suppress(OSError):
                path.unlink()
        self._reserved = []
        if kind is not None:
            report_written(self.paths)


def ready_folder(out: str | Path) -> Path:
    """Make the output folder and check that it is writable. InputError if it is not."""
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
    """A context that reports the existing files of `paths`, filled meanwhile, if an error or a signal ends it."""
    try:
        yield
    except BaseException:
        report_written(paths)
        raise


def report_written(paths: Sequence[Path]) -> None:
    """Print one line on stderr about the existing outputs of a run that ended early."""
    there = [path for path in paths if path.exists()]
    if there:
        where = there[0].parent.resolve()
        say(f"written before the end: {count(there)} in {where}: {names(there)}", sys.stderr)


def check_free(path: str | Path, overwrite: bool) -> None:
    """InputError for an output name that is a folder, or an existing file unless `overwrite` is true.

    For use before the work; `write_beside` is for use after it.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"got the output {path}, which is a folder, expected a file: add a name to it")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already: give another name, or --overwrite")


def check_new_folder(path: Path) -> None:
    """InputError if the folder of --out exists already, whatever it holds."""
    if path.exists():
        raise InputError(f"{path} exists already: give a new folder by --out, or remove it")


def write_beside(path: Path, write: Write) -> Path:
    """Write an output after long work, under the next free name if another program has taken its own.

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
    """A lock file in a folder, naming its process: one process at a time works there.

    The system's own lock on the file ends with the process, however that ends, so a leftover file is taken over.
    Without such a lock, the file is valid as long as its process lives on this machine. A leftover file of another
    machine is valid until it is removed, because its process cannot be observed from here.
    """

    def __init__(self, path: Path, busy: str) -> None:
        """path: of the lock file. busy: the message if another process holds it; {holder} is replaced in it."""
        self.path, self.busy = path, busy
        self._file = -1

    def __enter__(self) -> FolderLock:
        """Lock; makes a missing folder. InputError if another process holds it, or it cannot be written."""
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
            self.path.unlink()  # before unlocking: a process that has opened it meanwhile sees that it is stale
        self._close()

    def _try(self) -> None:
        """Open and lock the file; leaves it unlocked, for another attempt, if it was removed meanwhile."""
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
    """Lock an open file for this process: False if another holds it, None if the system has no such lock."""
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
    """True while the process that a lock names still runs; its number may belong to another process by now."""
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
    """A unique mark of a process's start, to tell it from others of its number; None if the system hides it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None
    return f"{boot} {ticks}"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A context that only one process at a time can enter for a folder; others wait. Nothing is written for it.

    On systems without locks on folders, it does nothing.
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
    """The names of outputs of one folder in one line; consecutive numbers are shown by the first and the last."""
    ranges: list[list[Path]] = []
    for path in paths:
        if ranges and _follows(ranges[-1][-1], path):
            ranges[-1].append(path)
        else:
            ranges.append([path])
    if len(ranges) > MAX_RANGES:
        return f"{paths[0].name} to {paths[-1].name}, among files of other runs"
    spans = (part[0].name if len(part) == 1 else f"{part[0].name} to {part[-1].name}" for part in ranges)
    return ", ".join(spans)


def _follows(before: Path, path: Path) -> bool:
    """True for two names that differ only in their number, by one: 00004-64.png and 00005-64.png."""
    first, second = NUMBERED.fullmatch(before.name), NUMBERED.fullmatch(path.name)
    if first is None or second is None or int(second[1]) != int(first[1]) + 1:
        return False
    return before.name.replace(first[1], second[1], 1) == path.name
