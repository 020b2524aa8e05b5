"""The cost of one picture and of many: by default, and in calls of one size, all measured in turn in one run.

python benchmarks/one_picture.py
python benchmarks/one_picture.py --dtype bfloat16 --repeats 9
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure.machine import timed
from glide.networks.fixed_batch import default_call_size
from glide.networks.image_request import ImageRequest
from glide.utils.cli import parse, run
from glide.utils.errors import InputError
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

CAPTION = "a large red ring"


@dataclass(frozen=True)
class OnePicture:
    """The flags."""

    model: str = "shapes"
    pictures: int = 16
    """Number of pictures in the run of many."""
    steps: int = 20
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    repeats: int = 5


def main() -> None:
    args = parse(OnePicture, __doc__)
    for flag in ("pictures", "steps", "repeats"):
        if getattr(args, flag) < 1:
            raise InputError(f"--{flag} {getattr(args, flag)}: expected at least 1: give more")
    for line in measure(args):
        print(line)


def measure(args: OnePicture) -> list[str]:
    """A line for a run of one, and one for a run of many: seconds by default, and as multiples of a given size's."""
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype)
    most = default_call_size(pipe.model, pipe.device)
    settings = SamplingConfig(
        respacing=str(args.steps), guidance="cfg" if pipe.conditioner.has_null else "none"
    )
    caption = CAPTION if pipe.model.config.reads_captions else ""
    label = 0 if pipe.model.config.num_classes else None

    def drawer(run: Pipeline, pictures: int) -> Callable[[], None]:
        rows = [ImageRequest(i, caption, label) for i in range(pictures)]

        def draw() -> None:
            for _ in run.draw(rows, settings):
                pass

        return draw

    cases = {
        "one, default": drawer(pipe, 1),
        "one, call_size=1": drawer(pipe.for_run(1), 1),
        f"one, call_size={most}": drawer(pipe.for_run(most), 1),
        "many, default": drawer(pipe, args.pictures),
        "many, call_size=1": drawer(pipe.for_run(1), args.pictures),
        f"many, call_size={most}": drawer(pipe.for_run(most), args.pictures),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(args.repeats + 1):
        for name, draw in cases.items():  # in turn: a machine that slows down slows all
            elapsed = timed(draw, pipe.device)
            if repeat:  # the first warms up
                seconds[name].append(elapsed)
    found = {name: median(taken) for name, taken in seconds.items()}
    lines = [f"{torch.__version__}, {pipe.device}, {torch.get_num_threads()} threads, {args.dtype}"]
    for which, count in (("one", 1), ("many", args.pictures)):
        usual = found[f"{which}, default"]
        others = ", ".join(
            f"{usual / found[name]:.2f} times call_size={size}"
            for size in sorted({1, most})
            if (name := f"{which}, call_size={size}") in found
        )
        words = "one picture" if count == 1 else f"{count} pictures"
        lines.append(f"{words}, {args.steps} steps of {settings.guidance}, default: {usual:.3g} s, {others}")
    return lines


if __name__ == "__main__":
    run(main)
