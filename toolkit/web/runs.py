"""Training runs that are watched: their curves and progress pictures, read from their folders as they grow.

The folders are those of the command line; a request names one by its label, and a picture by its step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.json_files import read_lines
from toolkit.web.guard import Refused
from toolkit.web.http import in_thread, json_response
from toolkit.web.state import ServerState

CURVES = ("loss", "gradient_norm", "images_per_second")
"""Of the training's log; all numbers of the held-out data are shown."""
MOST_POINTS = 400  # of a curve; a longer one is averaged
LARGEST_PICTURE = 2**26  # bytes


@dataclass(frozen=True)
class Runs:
    """Folders of runs, by label."""

    folders: dict[str, Path]

    def look(self, label: str) -> dict[str, Any]:
        """A run as it is now, JSON-able: curves as lists of [step, value], and the steps of its progress pictures."""
        folder = self._folder(label)
        training, held_out = (
            read_lines(folder / f"{name}.jsonl", step=int) for name in ("log", "validation")
        )
        curves = {name: _points(training, name) for name in CURVES}
        names = sorted(
            {name for line in held_out for name, value in line.items() if isinstance(value, float)}
        )
        curves |= {f"held out: {name}": _points(held_out, name) for name in names if name != "step"}
        found: dict[str, Any] = {"curves": {name: points for name, points in curves.items() if points}}
        found["steps"] = sorted(self._pictures(label))
        if not training:
            found["note"] = "It has logged no step yet."
        return found

    def picture(self, label: str, step: int) -> bytes:
        """The progress picture of a step. InputError where there is none."""
        path = self._pictures(label).get(step)
        if path is None:
            raise Refused(
                404, "request", f"got the step {step}, expected one with a progress picture: look again"
            )
        return read_bytes(path, LARGEST_PICTURE)

    def _folder(self, label: str) -> Path:
        if label not in self.folders:
            raise Refused(404, "request", "got a run that is not watched, expected one of --run: choose one")
        return self.folders[label]

    def _pictures(self, label: str) -> dict[int, Path]:
        """The progress pictures that there are, by their steps."""
        found = (self._folder(label) / "samples").glob("*.png")
        return {int(path.stem): path for path in found if path.stem.isdecimal() and len(path.stem) < 12}


def _points(lines: Sequence[dict[str, Any]], name: str) -> list[list[float]]:
    """[step, value] of an entry of all lines that have it, averaged to at most MOST_POINTS."""
    points = [(line["step"], line[name]) for line in lines if isinstance(line.get(name), int | float)]
    each = -(-len(points) // MOST_POINTS)
    parts = [points[i : i + each] for i in range(0, len(points), max(each, 1))]
    return [[part[-1][0], sum(value for _, value in part) / len(part)] for part in parts]


async def look(request: Request) -> Response:
    """The route of a run."""
    server: ServerState = request.app.state.server
    label = request.path_params["label"]
    return json_response(await in_thread(server.decoders, lambda: Runs(server.runs).look(label)))


async def picture(request: Request) -> Response:
    """The route of a progress picture."""
    server: ServerState = request.app.state.server
    label, step = request.path_params["label"], request.path_params["step"]
    data = await in_thread(server.decoders, lambda: Runs(server.runs).picture(label, step))
    return Response(data, media_type="image/png")


ROUTES: list[BaseRoute] = [
    Route("/api/runs/{label}", look),
    Route("/api/runs/{label}/{step:int}", picture),
]


def check_runs(folders: dict[str, str]) -> dict[str, Path]:
    """The folders of runs by label. InputError for one that is not there."""
    for folder in folders.values():
        if not Path(folder).is_dir():
            raise InputError(f"got --run {folder}, expected the folder of a training: correct the path")
    return {label: Path(folder) for label, folder in folders.items()}
