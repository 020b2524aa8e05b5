"""The service: the images interface that clients of hosted models speak, answered by the same queue.

`POST /v1/images/generations`, `POST /v1/images/edits`, `GET /v1/models`. Fields that only this server has (seed, steps,
sampler, guidance, negative_prompt, ...) may stand beside those of the interface.
"""

from __future__ import annotations

import base64
import re
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glide.utils.errors import InputError
from toolkit.web.draw_request import TRANSPARENCY, DrawRequest, read_request
from toolkit.web.guard import Refused
from toolkit.web.http import Watcher, in_thread, json_response, read_json
from toolkit.web.jobs import Job, QueueFull
from toolkit.web.json_fields import Fields
from toolkit.web.multipart import Part, read_form
from toolkit.web.picture_store import Stored, plain_name
from toolkit.web.state import ServerState
from toolkit.web.worker import key_of

MOST_ASKED = 10  # pictures of one request, as in that interface
FORMATS = ("b64_json", "png", "url")
IGNORED = ("user", "quality", "style", "background", "moderation", "output_compression", "input_fidelity")
"""Fields of that interface that mean nothing here."""
OWN = (
    "steps",
    "sampler",
    "spacing",
    "eta",
    "guidance",
    "options",
    "label",
    "seed",
    "strength",
    "method",
    "context",
)
SIZE = re.compile(r"(\d{1,5})x(\d{1,5})")


def error_response(status: int, message: str, param: str | None = None) -> Response:
    """An error in the form of that interface."""
    codes = {401: "invalid_api_key", 404: "not_found", 413: "request_too_large", 429: "queue_full"}
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = {"message": message, "type": kind, "param": param, "code": codes.get(status)}
    return json_response({"error": body}, status)


async def models(request: Request) -> Response:
    """The models of the server."""
    server: ServerState = request.app.state.server
    made = int(server.metrics.began)
    data = [
        {"id": label, "object": "model", "created": made, "owned_by": "glide-toolkit"}
        for label in server.models.labels
    ]
    return json_response({"object": "list", "data": data})


async def generations(request: Request) -> Response:
    """Pictures of a caption."""
    server: ServerState = request.app.state.server
    of = Fields(await read_json(request), "the request")
    form, asked = _asked(of, server)
    of.end()
    return await _answer(request, server, _jobs(form, asked["n"], server), asked["format"])


async def edits(request: Request) -> Response:
    """A picture with a part of it painted: image and mask as multipart, transparent where it is painted."""
    server: ServerState = request.app.state.server
    parts = read_form(await request.body(), request.headers.get("content-type", ""))
    files = {part.name: part for part in parts if part.filename is not None}
    values: dict[str, Any] = {
        part.name: _typed(part.name, part.data.decode("utf-8", "replace"))
        for part in parts
        if part.filename is None
    }
    image = files.get("image") or files.get("image[]")
    if image is None:
        raise InputError("got no image, expected one: send a picture as the part image")
    ids = await _stored(server, image, files.get("mask"))
    of = Fields(values, "the request")
    form, asked = _asked(of, server)
    of.end()
    return await _answer(request, server, _jobs(form | ids, asked["n"], server), asked["format"])


def _asked(of: Fields, server: ServerState) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields of a request of our own, and what is asked about the answer. InputError for what does not fit."""
    own = {name: of.values[name] for name in OWN if of.has(name)}
    for name in IGNORED:
        of.has(name)
    n = of.whole("n", _count(), 1)
    form = of.choice("response_format", FORMATS, "b64_json")
    of.choice("output_format", ("png",), "png")
    if of.flag("stream"):
        raise InputError("got stream true, expected false: use the page's socket for previews")
    model = of.text("model", None, 200)
    labels = server.models.labels
    if model is not None and model not in labels:
        raise Refused(
            404, "model", f"got the model {model!r}, expected {' or '.join(labels)}: choose one of these"
        )
    prompt = of.text("prompt", None, 32_000)
    if prompt is None:
        raise InputError("got no prompt, expected a text: describe the picture")
    own |= {
        "model": model,
        "caption": prompt[:4000],
        "negative": of.text("negative_prompt"),
        "preview": False,
    }
    size = of.text("size", "auto", 20) or "auto"
    if size != "auto":
        match = SIZE.fullmatch(size)
        if match is None or match[1] != match[2]:
            raise InputError(
                f"got the size {size!r}, expected auto or that of a square, such as 64x64: correct it"
            )
        own["size"] = int(match[1])
    return own, {"n": n, "format": form}


def _count() -> Any:
    from glide.utils.numbers import Range

    return Range(1, MOST_ASKED)


def _typed(name: str, value: str) -> Any:
    """A form's text as the JSON value that it stands for."""
    if name in ("eta", "strength", "context"):
        try:
            return float(value)
        except ValueError:
            return value
    if name == "guidance":
        return [part for part in value.split(",") if part]
    return {"true": True, "false": False}.get(value, value) if name == "stream" else value


async def _stored(server: ServerState, image: Part, mask: Part | None) -> dict[str, Any]:
    """Store the pictures of an edit: the request's fields that name them."""
    name = plain_name(image.filename, "image.png")

    def read() -> dict[str, Any]:
        from toolkit.web.uploads import mask_for, read_upload

        stored, found = read_upload(image.data, name)
        ids = {"kind": "edit", "image": server.store.put(stored)}
        if mask is not None:
            ids["mask"] = server.store.put(mask_for(mask.data, plain_name(mask.filename, "mask.png")))
        elif found["transparent"]:
            ids["mask"] = TRANSPARENCY
        else:
            ids["kind"] = "draw"  # without a mask all of it changes
        return ids

    found: dict[str, Any] = await in_thread(server.decoders, read)
    return found


def _jobs(form: dict[str, Any], n: int, server: ServerState) -> list[Job]:
    """A job for each picture: those of one request may be drawn with those of others."""
    first = read_request(
        {name: value for name, value in form.items() if value is not None}, server.models.labels
    )
    requests = [DrawRequest(**{**first.__dict__, "seed": first.seed + i}) for i in range(n)]
    return [Job(_own_size(one, server), key_of(_own_size(one, server))) for one in requests]


def _own_size(request: DrawRequest, server: ServerState) -> DrawRequest:
    """The request without a size that is the model's own, so that it can be drawn with others."""
    pipe = server.models.pipes.get(request.model)
    if pipe is None or request.size != pipe.model.config.picture_size:
        return request
    return DrawRequest(**{**request.__dict__, "size": None})


async def _answer(request: Request, server: ServerState, jobs: list[Job], form: str) -> Response:
    """Wait for the jobs, and answer with their pictures. Jobs of a client that has gone are cancelled."""
    server.check_ready()
    try:
        server.queue.put(*jobs)
    except QueueFull as error:
        server.metrics.refuse("queue")
        return error_response(429, str(error))
    try:
        for job in jobs:
            with Watcher(job) as watcher:
                while not job.over:
                    await watcher.changed(1.0)
                    if not job.over and await request.is_disconnected():
                        raise Refused(499, "left", "the client has left")
    finally:
        for job in jobs:
            server.queue.ask(job, "cancel") if not job.over else None
    failed = next((job for job in jobs if job.state != "done"), None)
    if failed is not None:
        ours = failed.message.startswith("the drawing failed")
        return error_response(500 if ours else 400, failed.message or "the drawing was cancelled")
    pictures = [(job.pictures[0], server.store.get(job.pictures[0]["id"])) for job in jobs]
    if form == "png" or (len(jobs) == 1 and request.headers.get("accept") == "image/png"):
        return Response(pictures[0][1].data, media_type="image/png")
    data = [_entry(shown, stored, form, request) for shown, stored in pictures]
    return json_response({"created": int(time.time()), "data": data})


def _entry(shown: dict[str, Any], stored: Stored, form: str, request: Request) -> dict[str, Any]:
    if form == "url":
        return {"url": f"{request.base_url}api/pictures/{shown['id']}", "seed": shown["seed"]}
    return {"b64_json": base64.b64encode(stored.data).decode(), "seed": shown["seed"]}


ROUTES: list[BaseRoute] = [
    Route("/v1/models", models),
    Route("/v1/images/generations", generations, methods=["POST"]),
    Route("/v1/images/edits", edits, methods=["POST"]),
]
