"""The one thread that draws: it takes jobs from the queue until the server stops. A job that fails fails alone.

Imports nothing heavy before its thread begins.
"""

from __future__ import annotations

import sys
import threading
import traceback
import warnings
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from glide.utils.cli import ran_out_of_memory
from glide.utils.errors import InputError, one_line, reason_of
from glide.utils.printable import say
from toolkit.web.draw_request import DrawRequest
from toolkit.web.jobs import Job, JobQueue
from toolkit.web.picture_store import PictureStore
from toolkit.web.served_models import ServedModels

if TYPE_CHECKING:
    from toolkit.web.drawing import Drawing
    from toolkit.web.together import Together


IDLE = 1.0  # seconds without a job, after which a further model is loaded


@dataclass(eq=False)
class Worker:
    """Draws jobs with models. `run` is its loop, in the main thread or in one of its own (`start`)."""

    models: ServedModels
    queue: JobQueue
    store: PictureStore
    fixed: int | None = None
    """Pictures in all network calls of the service; None: as many as changes no bit."""
    outcomes: dict[tuple[str, str], int] = field(default_factory=dict)
    """Numbers of jobs by kind and end."""
    drawing: Drawing | None = None
    """None until the first model is loaded."""
    failure: str = ""
    """The reason why the first model could not be loaded."""
    _together: Together | None = None
    _thread: threading.Thread | None = None

    @property
    def ready(self) -> bool:
        """True once it can draw."""
        return self.drawing is not None

    def start(self) -> None:
        """Run in a thread of its own."""
        self._thread = threading.Thread(target=self._run_and_say, name="drawing", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        """Wait for the end of that thread."""
        if self._thread is not None:
            self._thread.join(seconds)

    def run(self) -> None:
        """Load the first model and draw until the queue is closed. InputError where it cannot be loaded.

        The other models are loaded, one after the other, while nobody waits.
        """
        self.load()
        later = list(self.models.labels[1:])
        while not self.queue.closed:
            job = self.queue.take(IDLE if later else None)
            if job is not None:
                self.draw(job)
            elif later and not self.queue.closed:
                self.models.try_to_load(later.pop(0))

    def load(self) -> None:
        """Load what is needed to draw, and the first model."""
        from toolkit.web.drawing import Drawing
        from toolkit.web.together import Together

        try:
            self.models.pipe(self.models.labels[0])
        except InputError as error:
            self.failure = str(error)
            raise
        self._together = Together(self.fixed)
        self.drawing = Drawing(self.models, self.store)

    def draw(self, job: Job) -> None:
        """Draw a job, and others with it where that is possible. Whatever goes wrong ends these jobs alone."""
        assert self.drawing is not None and self._together is not None
        together, jobs = self._together, [job]
        if job.together is not None:
            taken = {together.place(job)}

            def fits(other: Job) -> bool:
                place = together.place(other)
                full = len(taken) >= together.most if together.fixed else len(jobs) >= together.most
                if full or (together.fixed and place in taken):
                    return False
                taken.add(place)
                if not together.fixed:
                    jobs.append(other)
                return True

            found = self.queue.take_with(job, fits)
            jobs = [job, *found]
        self._draw_all(jobs)
        for one in jobs:
            self.queue.done(one)
            key = (one.request.kind, one.state)
            self.outcomes[key] = self.outcomes.get(key, 0) + 1

    def _draw_all(self, jobs: list[Job]) -> None:
        from toolkit.web.drawing import Cancelled, draw_pictures, enlarge_picture
        from toolkit.web.editing import edit_picture
        from toolkit.web.guidance_maps import explain

        assert self.drawing is not None and self._together is not None
        kinds = {"draw": draw_pictures, "edit": edit_picture, "enlarge": enlarge_picture, "explain": explain}
        state, message = "cancelled", ""
        try:
            with _noted(jobs):
                if jobs[0].together is not None:
                    self._together.draw(jobs, self.drawing)
                else:
                    kinds[jobs[0].request.kind](jobs[0], self.drawing)
        except Cancelled:
            pass
        except InputError as error:
            state, message = "failed", str(error)
        except Exception as error:  # a defect, or no memory: the server goes on
            state, message = "failed", _sentence(error)
            say("".join(traceback.format_exception(error)), sys.stderr)
        for job in jobs:
            if not job.over:
                job.end(state, message)

    def _run_and_say(self) -> None:
        try:
            self.run()
        except InputError as error:
            say(f"error: {error}", sys.stderr)


@contextmanager
def _noted(jobs: list[Job]) -> Iterator[None]:
    """A context whose warnings are notes of the jobs, and are printed."""

    def note(message: Warning | str, *place: object, **more: object) -> None:
        for job in jobs:
            job.notes.append(one_line(message))
        say(f"warning: {one_line(message)}", sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = note
        yield


def key_of(request: DrawRequest) -> Hashable:
    """Requests of the same key can be drawn in one network call; None for those that are drawn alone."""
    if request.kind != "draw" or request.count > 1 or request.size is not None or request.image is not None:
        return None
    if request.conditions or request.call_size is not None or request.strength < 1.0:
        return None
    fields = (request.model, request.sampler, request.respacing, request.spacing, request.eta)
    return (*fields, request.guidance, request.options, bool(request.caption), request.label is None)


def _sentence(error: Exception) -> str:
    if ran_out_of_memory(error):
        return "got no memory for that, expected enough: ask for fewer or smaller pictures"
    return f"the drawing failed ({type(error).__name__}: {reason_of(error)}): the server goes on, and its log has more"
