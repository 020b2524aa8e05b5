"""The cost of a guided step, as a multiple of an unguided one, all measured in turn in one run.

python benchmarks/guidance.py --model shapes --batch-size 16 --dtype float32
python benchmarks/guidance.py --model runs/inner --lines none inner:1.5 cfg:3 --batch-size 8
python benchmarks/guidance.py --preset adm-64 --batch-size 2 --steps 3
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure.machine import timed
from benchmarks.measure.networks import fill_, random_model
from glide.checkpoints.load import save_model
from glide.networks.image_request import ImageRequest
from glide.networks.presets import PRESETS
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from guidance.classifier.config import CLASSIFIERS, ClassifierConfig
from guidance.classifier.load import save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.options import Options
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

LINES = ("none", "cfg:3", "cfg:3@200-800", "apg:5", "classifier:5", "clip:2", "pag:2")
CAPTION = "a large red ring"


@dataclass(frozen=True)
class Costs:
    """The flags."""

    model: str = "shapes"
    classifier: str = "shapes-shape"
    clip: str = "shapes-clip"
    lines: tuple[str, ...] = LINES
    """The guidances, the first of which the others are multiples of."""
    preset: Literal["adm-64", "adm-128", "adm-256", "adm-512"] | None = None
    """In place of these: ADM's model of that size and two classifiers, with random weights: the published one, and one
    that is the model's whole down path."""
    batch_size: int = 16
    steps: int = 10
    dtype: DType = AUTO
    device: str = "auto"
    repeats: int = 5


@dataclass(frozen=True)
class Case:
    """One guidance: what it is called in the table, as a line, with which networks."""

    name: str
    line: str
    options: Options


def main() -> None:
    args = parse(Costs, __doc__)
    for flag in ("batch_size", "steps", "repeats"):
        if getattr(args, flag) < 1:
            raise InputError(
                f"--{flag.replace('_', '-')} {getattr(args, flag)}: expected at least 1: give more"
            )
    if args.preset is None:
        options = Options(classifier=args.classifier, clip=args.clip)
        measure(args, args.model, [Case(line, line, options) for line in args.lines])
        return
    with tempfile.TemporaryDirectory() as folder:
        measure(args, *random_networks(args.preset, Path(folder)))


def random_networks(preset: str, folder: Path) -> tuple[str, list[Case]]:
    """A model of that preset in the folder, and what steers it: nothing, the published classifier, one of its size."""
    config = PRESETS[preset]
    save_model(folder / "model", random_model(config, 0))
    published = CLASSIFIERS[preset]
    own = ClassifierConfig(
        replace(config.unet, out_channels=3), config.num_classes, process=published.process
    )
    cases = [Case("none", "none", Options())]
    for name, classifier in {"published": published, "of its size": own}.items():
        network = NoisyClassifier(classifier)
        fill_(network, 1)
        save_classifier(folder / name, network)
        cases.append(Case(f"classifier, {name}", "classifier:5", Options(classifier=str(folder / name))))
    return str(folder / "model"), cases


def measure(args: Costs, model: str, cases: list[Case]) -> None:
    """Print the time of a step of each, as a multiple of the first's."""
    pipe = Pipeline.from_pretrained(model, args.device, args.dtype, call_size=args.batch_size)
    reads = pipe.model.config.reads_captions

    def drawer(case: Case) -> Callable[[], None]:
        settings = SamplingConfig("ddim", str(args.steps), 0.0, case.line, None, case.options)
        label = 0 if not reads or case.line.startswith("classifier") else None
        rows = [ImageRequest(i, CAPTION if reads else "", label) for i in range(args.batch_size)]

        def draw() -> None:
            for _ in pipe.draw(rows, settings):
                pass

        return draw

    draws = [drawer(case) for case in cases]
    seconds: list[list[float]] = [[] for _ in cases]
    for repeat in range(args.repeats + 1):
        for draw, taken in zip(draws, seconds, strict=True):  # in turn: a machine that slows down slows all
            elapsed = timed(draw, pipe.device)
            if repeat:  # the first loads networks and warms up
                taken.append(elapsed)
    print(f"{torch.__version__}, {pipe.device}, {torch.get_num_threads()} threads, {pipe.dtype}")
    alone = median(seconds[0])
    for case, taken in zip(cases, seconds, strict=True):
        a_step = median(taken) / args.steps / args.batch_size
        print(
            f"{case.name:23} {1000 * a_step:7.2f} ms a picture and step, {median(taken) / alone:.2f} times none"
        )


if __name__ == "__main__":
    run(main)
