"""Stop flags of a pipeline's runs, one for each thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import TYPE_CHECKING

from toolkit.pipelines.output import Step

if TYPE_CHECKING:
    pass


class Interrupts:
    """Flags by which the runs of one pipeline are stopped, one for each thread that is in a run."""

    def __init__(self) -> None:
        self._asked: dict[int, bool] = {}

    @contextmanager
    def run(self) -> Iterator[None]:
        """A run of this thread, which nobody has asked to stop yet."""
        thread, before = get_ident(), self._asked.get(get_ident())
        self._asked[thread] = False
        try:
            yield
        finally:
            if before is None:
                del self._asked[thread]
            else:  # a callback that draws itself
                self._asked[thread] = before

    def ask(self, stop: bool) -> None:
        """Stop the run that asks, for example in its callback; from elsewhere stop all runs."""
        threads = [get_ident()] if get_ident() in self._asked else list(self._asked)
        for thread in threads:
            self._asked[thread] = stop

    @property
    def asked(self) -> bool:
        """True once this thread's run, or outside of runs any, is to stop."""
        own = self._asked.get(get_ident())
        return any(list(self._asked.values())) if own is None else own  # a list: other threads come and go

    def until_asked(self, steps: Iterator[Step]) -> Iterator[Step]:
        """The steps of a run up to the one after which it was asked to stop."""
        thread = get_ident()
        for step in steps:
            yield step
            if self._asked.get(thread):
                return
