"""Jobs and their bounded queue: who waits, who is drawn, and what became of them. Threads may share all of it.

Imports nothing heavy.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from glide.utils.errors import InputError
from toolkit.web.draw_request import DrawRequest

MOST_WAITING = 50
MOST_REMEMBERED = 200  # jobs that are over, for those who come back for them
ENDS = ("done", "stopped", "cancelled", "failed")


class QueueFull(InputError):
    """A visitor for whom the queue has no place."""


@dataclass(frozen=True)
class Frame:
    """A preview of a job's pictures, in one picture file."""

    number: int
    data: bytes
    columns: int
    """Pictures side by side in it."""
    rows: int


@dataclass(eq=False)
class Job:
    """One request on its way. The worker changes it; others read it, and ask it to stop."""

    request: DrawRequest
    together: Hashable = None
    """Jobs of the same key may be drawn in one network call; None is alone."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    state: str = "waiting"
    step: int = 0
    steps: int = 0
    pictures: tuple[dict[str, Any], ...] = ()
    """Of each result its id in the store, its seed and its size."""
    maps: dict[str, Any] = field(default_factory=dict)
    """Sheets of what each guidance did, by their ids in the store (toolkit/web/guidance_maps.py)."""
    message: str = ""
    """The reason of a failure."""
    notes: list[str] = field(default_factory=list)
    """Warnings, such as of a caption that is too long."""
    frame: Frame | None = None
    region: tuple[int, int, int] | None = None
    """Left, top and side of the square that is painted."""
    asked: str = ""
    """"stop": keep what there is; "cancel": drop it."""
    began: float = 0.0
    ended: float = 0.0
    _watchers: set[Callable[[], None]] = field(default_factory=set)

    @property
    def over(self) -> bool:
        """True once nothing will change any more."""
        return self.state in ENDS

    @property
    def wants_preview(self) -> bool:
        """True where a preview would be seen; after the last step the picture itself is."""
        return self.request.preview and self.step < self.steps

    @property
    def watched(self) -> bool:
        """True while somebody waits for it."""
        return bool(self._watchers)

    def watch(self, wake: Callable[[], None]) -> None:
        """Call `wake` after every change, in any thread."""
        self._watchers.add(wake)

    def unwatch(self, wake: Callable[[], None]) -> None:
        """Call it no more."""
        self._watchers.discard(wake)

    def changed(self) -> None:
        """Wake all who watch."""
        for wake in list(self._watchers):
            with suppress(RuntimeError):  # the event loop of one who has gone
                wake()

    def begin(self, steps: int) -> None:
        """The drawing begins, of so many steps."""
        self.state, self.steps, self.began = "drawing", steps, time.monotonic()
        self.changed()

    def advance(self) -> None:
        """One step is done."""
        self.step += 1
        self.changed()

    def show(self, data: bytes, columns: int, rows: int) -> None:
        """A new preview, in place of the last one."""
        number = 1 if self.frame is None else self.frame.number + 1
        self.frame = Frame(number, data, columns, rows)

    def end(self, state: str, message: str = "", pictures: tuple[dict[str, Any], ...] = ()) -> None:
        """It is over. The last preview is dropped."""
        self.message, self.pictures, self.ended, self.frame = message, pictures, time.monotonic(), None
        self.state = state
        self.changed()

    def seconds_left(self) -> float | None:
        """Time to the last step, at the pace so far."""
        if self.state != "drawing" or not self.step:
            return None
        return (time.monotonic() - self.began) / self.step * (self.steps - self.step)

    def shown(self) -> dict[str, Any]:
        """Its state, JSON-able."""
        found: dict[str, Any] = {"job": self.id, "state": self.state, "kind": self.request.kind}
        found |= {"step": self.step, "steps": self.steps, "seed": str(self.request.seed)}
        left = self.seconds_left()
        found |= {} if left is None else {"seconds_left": round(left, 1)}
        found |= {} if self.region is None else {"region": list(self.region)}
        found |= {"message": self.message} if self.message else {}
        found |= {"maps": self.maps} if self.maps else {}
        found |= {"notes": list(self.notes)} if self.notes else {}
        return found | ({"pictures": list(self.pictures)} if self.over else {})


class JobQueue:
    """Jobs in the order in which they came, at most `most` that are not over."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self.most = most
        self._waiting: deque[Job] = deque()
        self._drawing: list[Job] = []
        self._known: OrderedDict[str, Job] = OrderedDict()
        self._lock = threading.Condition()
        self._closed = False

    def put(self, *jobs: Job) -> None:
        """Append jobs, all or none. QueueFull where there is no place for them."""
        with self._lock:
            count = len(self)
            if count + len(jobs) > self.most:
                raise QueueFull(
                    f"got your request as number {count + 1} of at most {self.most} that the queue holds, expected a "
                    "free place: try again in a minute"
                )
            for job in jobs:
                self._waiting.append(job)
                self._known[job.id] = job
            self._forget()
            self._lock.notify_all()

    def take(self, seconds: float | None = None) -> Job | None:
        """The next job, which is being drawn from now on. None after so many seconds without one, and at the end."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting or self._closed, seconds)
            if self._closed or not self._waiting:
                return None
            job = self._waiting.popleft()
            self._drawing.append(job)
        self._moved()
        return job

    def take_with(self, job: Job, fits: Callable[[Job], bool]) -> list[Job]:
        """Further jobs of the same key as `job`, in their order: of each that waits, `fits` is asked once."""
        if job.together is None:
            return []
        with self._lock:
            found = [one for one in self._waiting if one.together == job.together and fits(one)]
            for one in found:
                self._waiting.remove(one)
            self._drawing += found
        if found:
            self._moved()
        return found

    def done(self, job: Job) -> None:
        """The worker is through with it."""
        with self._lock:
            if job in self._drawing:
                self._drawing.remove(job)
        self._moved()

    def find(self, identity: str) -> Job | None:
        """The job of that id, also one that is over, if it is remembered."""
        return self._known.get(identity)

    def place(self, job: Job) -> int | None:
        """Number of jobs that are drawn before it; None where it does not wait."""
        with self._lock:
            return self._waiting.index(job) + len(self._drawing) if job in self._waiting else None

    def ask(self, job: Job, what: str) -> None:
        """Ask a job to "stop" or "cancel": one that waits leaves the queue, one that is drawn ends with its step."""
        with self._lock:
            waits = job in self._waiting
            if waits:
                self._waiting.remove(job)
            elif not job.over:
                job.asked = what if job.asked != "cancel" else "cancel"
        if waits:
            job.end("cancelled")
            self._moved()

    def close(self) -> None:
        """End all waiting; `take` returns None from now on."""
        with self._lock:
            self._closed = True
            left = list(self._waiting)
            self._waiting.clear()
            for job in self._drawing:
                job.asked = "cancel"
            self._lock.notify_all()
        for job in left:
            job.end("cancelled", "the server is being stopped")

    @property
    def closed(self) -> bool:
        """True once the server stops."""
        return self._closed

    @property
    def waiting(self) -> int:
        """Number of jobs that wait."""
        return len(self._waiting)

    def __len__(self) -> int:
        """Number of jobs that are not over."""
        return len(self._waiting) + len(self._drawing)

    def _forget(self) -> None:
        over = [job for job in self._known.values() if job.over]
        for job in over[: max(0, len(over) - MOST_REMEMBERED)]:
            del self._known[job.id]

    def _moved(self) -> None:
        """Those who wait have another place now."""
        for job in list(self._waiting):
            job.changed()
