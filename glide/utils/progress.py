"""Progress of long work on stderr: a bar on a terminal, plain lines elsewhere, nothing in quiet mode."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

from tqdm import tqdm

from glide.utils.printable import is_quiet, printable, say

T = TypeVar("T")
SHOWN_AFTER = 2.0  # seconds; shorter work needs no bar
FIRST, LONGEST = 10.0, 600.0  # seconds to the first plain line, and at most between two
CHARACTERS = 40  # of a bar's description


class Bar(Protocol):
    """The part of tqdm's interface that is used."""

    n: int

    def update(self, n: int = 1) -> object: ...

    def set_postfix(self, **values: str) -> object: ...

    def close(self) -> object: ...

    def __iter__(self) -> Iterator[Any]: ...

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object: ...


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "step",
    initial: int = 0,
    leave: bool = True,
    disable: bool = False,
) -> Bar:
    """Progress through `iterable`, or counted by `update()`, with the arguments of tqdm.

    On a terminal a bar appears after two seconds. Elsewhere, as in the log file of a job, it is a line after ten
    seconds and then less and less often, without carriage returns. leave: it stays when the work is done.
    """
    desc = printable(desc, CHARACTERS, sys.stderr)
    if total is None and hasattr(iterable, "__len__"):
        total = len(iterable)  # type: ignore[arg-type]
    if disable or not shows_bars():
        return Lines(iterable, total, desc, unit, initial, leave, disable or is_quiet())
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        leave=leave,
        delay=SHOWN_AFTER,
        dynamic_ncols=True,
    )


def shows_bars() -> bool:
    """True if stderr is a terminal and the mode is not quiet."""
    return not is_quiet() and sys.stderr.isatty()


class Lines(Generic[T]):
    """Progress in plain lines: "drawing 8 pictures: 120 of 160 steps, 35 s"."""

    def __init__(
        self,
        iterable: Iterable[T] | None,
        total: int | None,
        desc: str,
        unit: str,
        initial: int = 0,
        leave: bool = True,
        silent: bool = False,
    ) -> None:
        self.n, self.total, self.desc, self.unit = initial, total, desc, unit
        self._iterable, self._leave, self._silent = iterable, leave, silent
        self._after = ""
        self._begun = time.monotonic()
        self._gap = FIRST
        self._next = self._begun + FIRST

    def update(self, n: int = 1) -> None:
        self.n += n
        now = time.monotonic()
        if now >= self._next:
            self._say(now)
            self._gap = min(2 * self._gap, LONGEST)
            self._next = now + self._gap

    def set_postfix(self, **values: str) -> None:
        self._after = "".join(f", {name} {value}" for name, value in values.items())

    def close(self) -> None:
        """Print the last line, if the work took long enough."""
        now = time.monotonic()
        if self._leave and now - self._begun >= FIRST:
            self._say(now)
        self._silent = True

    def _say(self, now: float) -> None:
        if self._silent:
            return
        of = "" if self.total is None else f" of {self.total}"
        count = f"{self.n}{of} {self.unit}{'s' if self.n != 1 or of else ''}"
        say(
            f"{self.desc}{': ' if self.desc else ''}{count}, {now - self._begun:.0f} s{self._after}",
            sys.stderr,
        )

    def __iter__(self) -> Iterator[T]:
        with self:
            for one in self._iterable or ():
                yield one
                self.update()

    def __enter__(self) -> Lines[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
