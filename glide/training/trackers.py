"""Experiment trackers besides a run's own log: TensorBoard, Weights & Biases, trackio. Each is an extra."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from glide.utils.atomic_write import atomic_path
from glide.utils.errors import InputError, one_line

TrackerName = Literal["tensorboard", "wandb", "trackio"]


class Tracker(Protocol):
    def log(self, values: Mapping[str, float], step: int) -> None: ...

    def close(self) -> None: ...


def open_trackers(
    names: Sequence[TrackerName], out: Path, settings: Mapping[str, Any], resume: bool = False
) -> list[Tracker]:
    """Open trackers by name; they write into `out` only. InputError for one that is not installed.

    resume: continue the curves of the resumed run.
    """
    return [
        TensorBoard(out) if name == "tensorboard" else Online(name, out, settings, resume) for name in names
    ]


class TensorBoard:
    """Event files in `out/tensorboard`."""

    def __init__(self, out: Path) -> None:
        _import("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Online:
    """wandb, or trackio, which has the same calls but finds a run by its name; wandb finds it by an id."""

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any], resume: bool) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(out / "trackio"))
        module = _import(name, name)
        id_file = out / "wandb.id"
        options: dict[str, Any] = {"resume": "allow"} if resume else {}
        if name == "wandb":
            options["dir"] = str(out)
            if resume and id_file.is_file():
                options["id"] = id_file.read_text("utf-8").strip()
        try:
            self.run = module.init(project="glide-toolkit", name=out.name, config=dict(settings), **options)
        except Exception as error:  # of many kinds: no login, no network, no disk space
            raise InputError(
                f"--track {name}: it cannot begin a run ({one_line(error)}): log in, set WANDB_MODE=offline "
                "for wandb without a network, or leave it out"
            ) from error
        if name == "wandb":
            with atomic_path(id_file) as path:
                path.write_text(f"{self.run.id}\n", "utf-8")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"--track {name}: it is not installed: pip install 'glide-toolkit[{extra}]', or leave it out"
        ) from None


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The numbers of a log's line; lists by quarter of the timesteps (loss_quarters) as loss_quarters/1 to 4."""
    for name, value in line.items():
        if isinstance(value, list):
            yield from ((f"{name}/{i}", x) for i, x in enumerate(value, 1) if x is not None)
        elif isinstance(value, int | float) and name != "step":
            yield name, value
