"""A server of tiny models, in this process: its worker, its app, and jobs that are drawn at once."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from starlette.testclient import TestClient

from toolkit.web.app import build
from toolkit.web.draw_request import read_request
from toolkit.web.jobs import Job, JobQueue
from toolkit.web.picture_store import PictureStore, Stored
from toolkit.web.served_models import ServedModels, labels
from toolkit.web.worker import Worker, key_of

HERE = "http://localhost"


def worker_of(*folders: Path, fixed: int | None = None, most: int = 50, **models: Any) -> Worker:
    """A worker of these models, float32 on the CPU, with the first one loaded."""
    served = ServedModels(labels([str(folder) for folder in folders]), "cpu", "float32", **models)
    worker = Worker(served, JobQueue(most), PictureStore(), fixed)
    worker.load()
    return worker


def drawn(worker: Worker, together: bool = False, **request: Any) -> Job:
    """A job of this request, drawn."""
    asked = read_request(request, worker.models.labels)
    job = Job(asked, key_of(asked) if together else None)
    worker.queue.put(job)
    taken = worker.queue.take(0)
    assert taken is job
    worker.draw(job)
    return job


def files_of(worker: Worker, job: Job) -> list[bytes]:
    """The PNGs of a job that is done."""
    assert job.state in ("done", "stopped"), job.message
    return [worker.store.get(one["id"]).data for one in job.pictures]


@contextmanager
def serving(worker: Worker, base_url: str = HERE, **arguments: Any) -> Iterator[TestClient]:
    """A client of the worker's app; server errors are answers, as a visitor gets them."""
    with TestClient(build(worker, **arguments), base_url=base_url, raise_server_exceptions=False) as client:
        yield client


def png(pixels: Any, mode: str | None = None) -> bytes:
    """A PNG's bytes of uint8 pixels."""
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(file, "PNG")
    return file.getvalue()


def pixels_of(data: bytes) -> Any:
    """uint8 [H,W,C] of a picture's bytes."""
    return np.asarray(Image.open(io.BytesIO(data)))


def noise(side: int = 24, channels: int = 3) -> Any:
    """A picture of which every pixel differs, uint8 [side,side,channels]."""
    return np.random.default_rng(side).integers(0, 256, (side, side, channels), np.uint8)


def stored(worker: Worker, data: bytes, name: str = "photo.png") -> str:
    """The id of a picture in the worker's store."""
    return worker.store.put(Stored(data, "image/png", name))


def until_over(socket: Any, frames: list[bytes] | None = None) -> dict[str, Any]:
    """The last state of the only job of a socket; its previews go into `frames`."""
    while True:
        message = socket.receive()
        assert message["type"] == "websocket.send", message
        if message.get("bytes"):
            if frames is not None:
                frames.append(message["bytes"])
            continue
        state: dict[str, Any] = json.loads(message["text"])
        if state["type"] == "refused" or state.get("state") in ("done", "failed", "stopped", "cancelled"):
            return state
