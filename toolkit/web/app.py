"""The app: routes of the page, its socket, and the service. No path of a request opens a file.

app = build(Worker(ServedModels(labels(["shapes"])), JobQueue(), PictureStore()))
"""

from __future__ import annotations

import mimetypes
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from glide.diffusion.samplers.registry import DEFAULT_SAMPLER, DEFAULT_STEPS, SPACINGS, all_samplers
from glide.utils.errors import InputError
from glide.version import __version__
from guidance.registry import known
from toolkit.web import images_api, runs
from toolkit.web.draw_request import MOST_PICTURES, MOST_STEPS
from toolkit.web.guard import Guard, Refused
from toolkit.web.http import in_thread, json_response
from toolkit.web.picture_store import plain_name
from toolkit.web.recipe_form import form_of
from toolkit.web.socket import socket
from toolkit.web.state import ServerState
from toolkit.web.worker import Worker

STATIC = Path(__file__).parent / "static"
MOST_BYTES = 32 * 2**20
"""Of an upload."""


def build(
    worker: Worker, token: str | None = None, most_bytes: int = MOST_BYTES, starts: bool = True, **state: Any
) -> Guard:
    """The app of a server. starts: the worker gets a thread of its own; else the caller runs it.

    token: what visitors have to show. most_bytes: of a body. state: further fields of `ServerState`.
    """
    server = ServerState(worker, **state)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if starts:
            worker.start()
        yield
        worker.queue.close()
        if starts:
            worker.join(10.0)

    app = Starlette(
        routes=[*_page(), *_api(), *images_api.ROUTES, *runs.ROUTES, WebSocketRoute("/api/socket", socket)],
        lifespan=lifespan,
        exception_handlers={InputError: _refused, HTTPException: _refused_by_route},
    )
    app.state.server = server
    return Guard(app, token, most_bytes, server.metrics.refuse)


def _page() -> list[BaseRoute]:
    """The page's files, read once: a request names one of them, and never a path."""
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.is_file()}

    def served(name: str) -> Response:
        kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
        headers = {"cache-control": "no-cache"}
        return Response(files[name], media_type=kind or "application/octet-stream", headers=headers)

    async def index(request: Request) -> Response:
        return served("index.html")

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        return served(name) if name in files else PlainTextResponse("there is no such file", 404)

    return [Route("/", index), Route("/static/{name}", static)]


def _api() -> list[BaseRoute]:
    return [
        Route("/api/about", _about),
        Route("/api/pictures", _upload, methods=["POST"]),
        Route("/api/pictures/{id}", _picture),
        Route("/healthz", _health),
        Route("/metrics", _metrics),
    ]


async def _about(request: Request) -> Response:
    """All that the page's form offers."""
    server: ServerState = request.app.state.server
    guidances = [
        {
            "name": name,
            "words": entry.words,
            "scale": entry.scale,
            "acts": list(entry.acts) if entry.acts else None,
            "options": sorted(entry.reads),
        }
        for name, entry in known().items()
        if name != "none"
    ]
    return json_response(
        {
            "version": __version__,
            "ready": server.worker.ready,
            "failure": server.worker.failure,
            "models": [server.models.about(label) for label in server.models.labels],
            "samplers": {name: sampler.words for name, sampler in all_samplers().items()},
            "spacings": dict(SPACINGS),
            "guidances": guidances,
            "runs": list(server.runs),
            "default_sampler": DEFAULT_SAMPLER,
            "default_steps": DEFAULT_STEPS,
            "most_pictures": MOST_PICTURES,
            "most_steps": MOST_STEPS,
        }
    )


async def _upload(request: Request) -> Response:
    """A picture's file as body; answers with its id, its size and, of our PNGs, the form that drew it."""
    server: ServerState = request.app.state.server
    name = plain_name(request.query_params.get("name"), "picture.png")
    body = await request.body()

    def read() -> dict[str, Any]:
        from toolkit.web.uploads import read_upload

        stored, found = read_upload(body, name)
        recipe = found.pop("recipe")
        if recipe is not None:
            try:
                found["form"], notes = form_of(recipe, name, server.models)
                found["notes"] += notes
            except InputError as error:
                found["notes"].append(str(error))
        return found | {"id": server.store.put(stored), "sha256": stored.sha256}

    return json_response(await in_thread(server.decoders, read))


async def _picture(request: Request) -> Response:
    """A picture of the store, by its id. ?download names the file."""
    server: ServerState = request.app.state.server
    try:
        stored = server.store.get(request.path_params["id"])
    except InputError as error:
        return PlainTextResponse(str(error), 404)
    headers = {"cache-control": "private, max-age=3600, immutable"}
    if "download" in request.query_params:
        headers["content-disposition"] = f'attachment; filename="{_ascii(stored.name)}"'
    return Response(stored.data, media_type=stored.media_type, headers=headers)


def _ascii(name: str) -> str:
    """A file's name as a header can have it; the page's links have the whole name."""
    plain = name.encode("ascii", "ignore").decode()
    return plain if plain.strip(" .-").removesuffix("png") else "picture.png"


async def _health(request: Request) -> Response:
    server: ServerState = request.app.state.server
    worker = server.worker
    status = "failed" if worker.failure else "ok" if worker.ready else "loading"
    return json_response({"status": status}, 200 if status == "ok" else 503)


async def _metrics(request: Request) -> Response:
    server: ServerState = request.app.state.server
    return PlainTextResponse(
        server.metrics.text(server.worker), media_type="text/plain; version=0.0.4; charset=utf-8"
    )


async def _refused(request: Request, error: Exception) -> Response:
    """InputError as JSON; those of the service in that interface's form."""
    status, kind = (error.status, error.kind) if isinstance(error, Refused) else (400, "request")
    server: ServerState = request.app.state.server
    server.metrics.refuse(kind)
    return images_api.error_response(status, str(error))


async def _refused_by_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 400
    return images_api.error_response(status, str(getattr(error, "detail", "")) or "there is no such address")
