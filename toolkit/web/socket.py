"""The page's socket: jobs in, states and previews out. A lost connection can come back to its jobs.

A message of the browser is JSON: {"type": "draw", "tag": ..., "request": {...}}, or "watch", "stop" or "cancel" with a
job's id. A preview is a binary message: four bytes with the length of a JSON table, that table, and a picture's file.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from glide.utils.errors import InputError
from glide.utils.json_files import as_table, parse_json
from toolkit.web.draw_request import read_request
from toolkit.web.http import Watcher, background
from toolkit.web.jobs import Job, QueueFull
from toolkit.web.json_fields import Fields
from toolkit.web.state import ServerState

MOST_MESSAGE = 2**16  # bytes of a browser's message
MOST_JOBS = 8  # of one visitor at once
MOST_SOCKETS = 256
LEFT = (1000, 1001)
"""Codes of a tab that was closed, or led elsewhere; with any other one the connection was lost."""


@dataclass(eq=False)
class Session:
    """One visitor's socket."""

    socket: WebSocket
    state: ServerState
    jobs: dict[str, Job] = field(default_factory=dict)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run(self) -> None:
        """Answer messages until the visitor leaves."""
        await self.socket.accept()
        code = 1006
        try:
            while True:
                message = await self.socket.receive()
                if message["type"] == "websocket.disconnect":
                    code = message.get("code") or 1006
                    break
                await self._answer(message)
        except (WebSocketDisconnect, RuntimeError, OSError):
            pass
        finally:
            for task in list(self.tasks):
                task.cancel()
            seconds = self.state.grace_left if code in LEFT else self.state.grace_lost
            for job in self.jobs.values():
                if not job.over:
                    background(self.state.tasks, self._free(job, seconds))

    async def _free(self, job: Job, seconds: float) -> None:
        """Cancel a job that nobody has come back to."""
        await asyncio.sleep(seconds)
        if not job.over and not job.watched:
            self.state.queue.ask(job, "cancel")

    async def _answer(self, message: Any) -> None:
        """Do what a message asks; whatever is wrong with it is answered in one sentence."""
        tag = None
        try:
            data = message.get("text")
            if data is None or len(data) > MOST_MESSAGE:
                raise InputError("got a message that is no text, or too long, expected JSON: send less")
            of = Fields(as_table(parse_json(data, "the message"), "the message"), "the message")
            tag = of.text("tag", None, 100)
            kind = of.choice("type", ("draw", "watch", "stop", "cancel"), "draw")
            if kind == "draw":
                self._draw(of.values.get("request"), tag)
            else:
                self._ask(str(kind), of.text("job", "", 100) or "", tag)
        except InputError as error:
            self.state.metrics.refuse("queue" if isinstance(error, QueueFull) else "request")
            await self._send({"type": "refused", "tag": tag, "message": str(error)})

    def _draw(self, values: object, tag: str | None) -> None:
        unfinished = sum(not job.over for job in self.jobs.values())
        if unfinished >= MOST_JOBS:
            raise InputError(
                f"got a request beside {unfinished} others of yours, expected fewer: wait for them"
            )
        job = Job(read_request(values, self.state.models.labels))
        self.state.check_ready()
        self.state.queue.put(job)
        self._follow(job, tag)

    def _ask(self, what: str, identity: str, tag: str | None) -> None:
        job = self.state.queue.find(identity)
        if job is None:
            raise InputError(
                "got the id of a job that is not known any more, expected one of now: draw again"
            )
        if what == "watch":
            if identity not in self.jobs:
                self._follow(job, tag)
        else:
            self.state.queue.ask(job, what)

    def _follow(self, job: Job, tag: str | None) -> None:
        self.jobs = {name: one for name, one in self.jobs.items() if not one.over} | {job.id: job}
        watcher = Watcher(job)
        watcher.__enter__()  # at once: a job without watchers is taken for one whose visitor has left
        background(self.tasks, self._report(job, watcher, tag))

    async def _report(self, job: Job, watcher: Watcher, tag: str | None) -> None:
        """Send every change of a job, of frames only the newest."""
        try:
            await self._send({"type": "accepted", "tag": tag, "job": job.id})
            shown = 0
            while True:
                await watcher.changed()
                frame, over = job.frame, job.over
                if frame is not None and frame.number != shown:
                    shown = frame.number
                    head = {"job": job.id, "columns": frame.columns, "rows": frame.rows}
                    await self._send(head, frame.data)
                state = {"type": "state", **job.shown()}
                place = self.state.queue.place(job)
                await self._send(state if place is None else state | {"place": place})
                if over:
                    return
        except (WebSocketDisconnect, RuntimeError, OSError):
            return
        finally:
            watcher.__exit__(None, None, None)

    async def _send(self, table: dict[str, Any], data: bytes | None = None) -> None:
        text = json.dumps(table)
        async with self.lock:
            if data is None:
                await self.socket.send_text(text)
            else:
                head = text.encode()
                await self.socket.send_bytes(len(head).to_bytes(4, "big") + head + data)


async def socket(websocket: WebSocket) -> None:
    """The route."""
    state: ServerState = websocket.app.state.server
    if state.sockets >= MOST_SOCKETS:
        await websocket.close(1013, "the server has too many visitors")
        return
    state.sockets += 1
    try:
        await Session(websocket, state).run()
    finally:
        state.sockets -= 1
