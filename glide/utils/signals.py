"""Signals that ask a program to end: SIGTERM, Ctrl-C, and SIGHUP, which a terminal that is closed sends.

They end a training between two steps, with a checkpoint, and a second Ctrl-C ends it at once. Anything else they end by
an exception, so that it can tidy up and say what it has done.
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
PAUSE = 2.0  # seconds: launchers pass on the signal that the terminal has sent already


class Stopped(SystemExit):
    """A run that was asked to stop, and has saved; the exit code is the shell's for that signal, 130 or 143."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)


class Terminated(KeyboardInterrupt):
    """A signal asked the program to end, as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def raised() -> Iterator[None]:
    """Within: SIGTERM and SIGHUP raise Terminated; where they were ignored, as under nohup, they still are.

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


class _BrokenOff(BaseException):
    """Ends what may be left out; no error of it."""


class Signals:
    """Within this context the signals are remembered in `caught` instead of ending the process.

    Outside of the main thread, where Python allows no handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.caught = 0
        self._breaks_off = False
        self._when = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():
            hung_up = signal.getsignal(CAUGHT[-1]) == signal.SIG_IGN  # nohup: it goes on without a terminal
            caught = CAUGHT[:2] if hung_up else CAUGHT
            self._before = {number: signal.signal(number, self._catch) for number in caught}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def break_off(self, act: Callable[[], object]) -> None:
        """Do what may be left out, such as a progress picture: not after a signal, and the first one breaks it off."""
        if self.caught:
            return
        try:
            self._breaks_off = True
            act()
            self._breaks_off = False
        except _BrokenOff:
            pass
        finally:
            self._breaks_off = False

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if not self.caught:
            self.caught, self._when = number, time.monotonic()
            if self._breaks_off:
                raise _BrokenOff
        elif number == signal.SIGINT and time.monotonic() > self._when + PAUSE:
            raise KeyboardInterrupt
