"""Where a run's numbers go besides its log: TensorBoard, Weights & Biases, trackio. Each is an extra."""

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
    """Those asked for; all that they write is in `out`. InputError for one that is not installed.

    resume: a run that is taken up goes on in the same curves.
    """
    return [
        TensorBoard(out) if name == "tensorboard" else Online(name, out, settings, resume) for name in names
    ]


class TensorBoard:
    """Event files in `out/tensorboard`."""

    def __init__(self, out: Path) -> None:
        _module("tensorboard", "tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(out / "tensorboard"))

    def log(self, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Online:
    """wandb, or trackio, whose calls are the same, but that trackio finds a run again by its name, wandb by an id."""

    def __init__(self, name: str, out: Path, settings: Mapping[str, Any], resume: bool) -> None:
        os.environ.setdefault("TRACKIO_DIR", str(out / "trackio"))
        module = _module(name, name)
        known = out / "wandb.id"
        more: dict[str, Any] = {"resume": "allow"} if resume else {}
        if name == "wandb":
            more["dir"] = str(out)
            if resume and known.is_file():
                more["id"] = known.read_text("utf-8").strip()
        try:
            self.run = module.init(project="glide-toolkit", name=out.name, config=dict(settings), **more)
        except Exception as error:  # of many kinds: nobody is logged in, there is no network, no room
            raise InputError(
                f"--track {name}: it cannot begin a run ({one_line(error)}): log in, set WANDB_MODE=offline "
                "for wandb without a network, or leave it out"
            ) from error
        if name == "wandb":
            with atomic_path(known) as path:
                path.write_text(f"{self.run.id}\n", "utf-8")

    def log(self, values: Mapping[str, float], step: int) -> None:
        self.run.log(dict(values), step=step)

    def close(self) -> None:
        self.run.finish()


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"--track {name}: it is not installed: pip install 'glide-toolkit[{extra}]', or leave it out"
        ) from None


def numbers(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What of a log's line is a number; lists by quarter of the timesteps (loss_quarters) as loss_quarters/1 to 4."""
    for name, value in line.items():
        if isinstance(value, list):
            yield from ((f"{name}/{i}", x) for i, x in enumerate(value, 1) if x is not None)
        elif isinstance(value, int | float) and name != "step":
            yield name, value
