"""What a guided step costs, as a multiple of an unguided one, all measured in turn in one run.

python benchmarks/guidance.py --model shapes --batch-size 16 --dtype float32
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
from glide.cli import parse, run
from guidance.conditions import Picture
from guidance.options import Options
from guidance.pipeline import Pipeline
from guidance.settings import Settings

LINES = ("none", "cfg:3", "cfg:3@200-800", "apg:5", "classifier:5", "clip:2", "pag:2")


@dataclass(frozen=True)
class Costs:
    """What is measured."""

    model: str = "shapes"
    classifier: str = "shapes-shape"
    clip: str = "shapes-clip"
    batch_size: int = 16
    steps: int = 10
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "auto"
    repeats: int = 5


def main() -> None:
    args = parse(Costs, __doc__)
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, call_size=args.batch_size)
    options = Options(classifier=args.classifier, clip=args.clip)
    pictures = [Picture(i, "a large red ring") for i in range(args.batch_size)]

    def drawer(line: str) -> Callable[[], None]:
        settings = Settings("ddim", str(args.steps), 0.0, line, None, options)
        label = 0 if line.startswith("classifier") else None
        rows = [Picture(p.seed, p.caption, label) for p in pictures]

        def draw() -> None:
            for _ in pipe.draw(rows, settings):
                pass

        return draw

    draws = {line: drawer(line) for line in LINES}
    seconds: dict[str, list[float]] = {line: [] for line in LINES}
    for repeat in range(args.repeats + 1):
        for line, draw in draws.items():  # in turn, so that a machine that slows down slows all of them
            elapsed = timed(draw, pipe.device)
            if repeat:  # the first loads networks and warms up
                seconds[line].append(elapsed)
    print(f"{torch.__version__}, {pipe.device}, {torch.get_num_threads()} threads, {args.dtype}")
    alone = median(seconds["none"])
    for line in LINES:
        a_step = median(seconds[line]) / args.steps / args.batch_size
        print(
            f"{line:16} {1000 * a_step:7.2f} ms a picture and step, {median(seconds[line]) / alone:.2f} times none"
        )


if __name__ == "__main__":
    run(main)
