"""Bodies and waiting, shared by the page's routes and the service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from glide.utils.json_files import as_table, parse_json
from toolkit.web.guard import Refused
from toolkit.web.jobs import Job

MOST_JSON = 2**20  # bytes


class Watcher:
    """Wakes a coroutine at every change of a job, which happens in another thread."""

    def __init__(self, job: Job) -> None:
        self.job, self.event = job, asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> Watcher:
        self.job.watch(self.wake)
        self.event.set()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.job.unwatch(self.wake)

    def wake(self) -> None:
        """Called by the thread that changes the job."""
        self._loop.call_soon_threadsafe(self.event.set)

    async def changed(self, seconds: float | None = None) -> None:
        """Wait for a change, or so long."""
        try:
            await asyncio.wait_for(self.event.wait(), seconds)
        except TimeoutError:
            return
        self.event.clear()


async def read_json(request: Request) -> dict[str, Any]:
    """The table in a body. Refused for one that is too long; InputError for what is no JSON table."""
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_JSON:
            raise Refused(413, "size", f"got JSON of more than {MOST_JSON} bytes, expected less: shorten it")
    return as_table(parse_json(bytes(body), "the request's body"), "the request's body")


def json_response(value: object, status: int = 200) -> Response:
    """JSON in ASCII: a stranger's recipe may hold half a surrogate pair, which UTF-8 cannot write."""
    return Response(json.dumps(value), status, media_type="application/json")


async def in_thread(lock: asyncio.Semaphore, work: Callable[[], Any]) -> Any:
    """The result of some work that would hold up all visitors, in a thread; few of these at a time."""
    async with lock:
        return await asyncio.to_thread(work)


def background(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    """Start work that goes on beside; `tasks` holds it, since the event loop does not."""
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)
