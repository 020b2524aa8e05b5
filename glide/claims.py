"""Claims on the names of outputs, so that nothing of one process is lost to another, and nothing is silently lost.

A number is claimed by exclusive creation: the file is written whole under a name of its own, and then takes the name
`00000.png` only where nobody else has. What a run has written is named when a signal or an error ends it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from glide.atomic import temporary_name
from glide.errors import InputError, NameTaken, warn
from glide.printable import say

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
            except NameTaken:  # by another run; the listing tells how far it has come
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
            tell_written(self.paths)


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
            f"cannot write to {out} ({error.strerror or error}): choose another folder by --out"
        ) from error
    return path


@contextmanager
def told_when_stopped(paths: Sequence[Path]) -> Iterator[None]:
    """Within: an error or a signal that ends the work names those of `paths`, filled on the way, that are there."""
    try:
        yield
    except BaseException:
        tell_written(paths)
        raise


def tell_written(paths: Sequence[Path]) -> None:
    """One line on stderr for a run that ended early, where any of its outputs is there."""
    there = [path for path in paths if path.exists()]
    if there:
        where = there[0].parent.resolve()
        say(f"written before the end: {count(there)} in {where}: {names(there)}", sys.stderr)


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
    """Whether two names differ by one in their number and in nothing else: 00004-64.png and 00005-64.png."""
    first, second = NUMBERED.fullmatch(before.name), NUMBERED.fullmatch(path.name)
    if first is None or second is None or int(second[1]) != int(first[1]) + 1:
        return False
    return before.name.replace(first[1], second[1], 1) == path.name
