"""Handle the signals that end a program: SIGTERM, Ctrl-C, and SIGHUP of a closed terminal.

They end a training run between two steps, with a checkpoint; a second Ctrl-C ends it immediately. Other programs end by
an exception, so that they can clean up and report what they have written.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

CAUGHT = [signal.SIGTERM, signal.SIGINT, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
PAUSE = 2.0  # seconds: launchers repeat the signal that the terminal has sent already


class Stopped(SystemExit):
    """A run that has stopped by a signal after saving; the exit code is the shell's for that signal, 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Terminated(KeyboardInterrupt):
    """A signal that ends the program, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """A context in which SIGTERM and SIGHUP raise Terminated; ignored ones, as under nohup, stay ignored.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        ends = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.getsignal(number) for number in ends}
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)


class _Interrupted(BaseException):
    """Interrupts optional work; not an error."""


class Signals:
    """A context that records the signals in `caught` instead of ending the process.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._interruptible = False
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            hung_up = (
                signal.getsignal(CAUGHT[-1]) == signal.SIG_IGN
            )  # nohup: the run continues without a terminal
            caught = CAUGHT[:2] if hung_up else CAUGHT
            self._before = {number: signal.signal(number, self._catch) for number in caught}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def run_optional(self, act: Callable[[], object]) -> None:
        """Do optional work, such as a preview: not after a signal, and the first signal interrupts it."""
        if self.caught:
            return
        try:
            self._interruptible = True
            act()
            self._interruptible = False
        except _Interrupted:
            pass
        finally:
            self._interruptible = False

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:
            self.caught, self._when = number, time.monotonic()
            if self._interruptible:
                raise _Interrupted
        elif number == signal.SIGINT and time.monotonic() > self._when + PAUSE:
            raise KeyboardInterrupt
