"""A student beside its teacher: the error of its guided x0, and the time of a picture, in turn in one run.

python benchmarks/students.py --student runs/guided
python benchmarks/students.py --student runs/four --teacher shapes --pictures 16 --repeats 5

The error is that of x0 within the bounds of pictures, against the teacher's guidance by two evaluations at the same
noise: root of the summed squares of the difference over that of the teacher's x0, over held-out built-in scenes at
evenly spread timesteps, or at those of the student's own steps.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure.machine import timed
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from guidance.context import GuidanceInputs
from guidance.guided_denoiser import GuidedDenoiser
from guidance.spec import GuidanceSpec
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


@dataclass(frozen=True)
class Students:
    """The flags."""

    student: str
    teacher: str = "shapes"
    strengths: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0, 8.0)
    """Strengths of guidance at which x0 is compared; those that the student does not know are left out."""
    pictures: int = 32
    """Held-out scenes."""
    timesteps: int = 10
    """Evenly spread timesteps, for a student without steps of its own."""
    scale: float = 3.0
    """Guidance of the pictures whose time is taken."""
    repeats: int = 3
    dtype: DType = AUTO
    device: str = "auto"


def main() -> None:
    args = parse(Students, __doc__)
    student, teacher = (
        Pipeline.from_pretrained(name, args.device, args.dtype) for name in (args.student, args.teacher)
    )
    own = student.model.config.student
    if own is None or not own.strengths:
        raise InputError(f"got {args.student}, which receives no strength, expected a student: give another")
    known = [w for w in args.strengths if own.strengths[0] <= w <= own.strengths[1]]
    for w, error in errors(args, student, teacher, known).items():
        print(f"guidance {w:g}: relative error of x0 {100 * error:.1f}%")
    print(times(args, student, teacher))


def errors(
    args: Students, student: Pipeline, teacher: Pipeline, strengths: list[float]
) -> dict[float, float]:
    """The relative error of the student's x0 for each strength."""
    scenes = held_out_scenes(args.pictures, seed=0)
    size = student.model.config.unet.image_size
    pixels = torch.from_numpy(render(scenes, size))  # [N,H,W,3]
    x0 = pixels.permute(0, 3, 1, 2).float() / 127.5 - 1.0  # [N,3,H,W]
    process = student.model.process
    own = student.model.config.student
    steps = torch.linspace(0, len(process) - 1, args.timesteps + 1).long().tolist()[1:]
    if own is not None and own.steps:
        steps = student.process(SamplingConfig()).timesteps.tolist()
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    requests = [ImageRequest(i, scene.caption) for i, scene in enumerate(scenes)]
    found = {}
    for w in strengths:
        one, other = (_denoiser(pipe, requests, w) for pipe in (student, teacher))
        apart = total = 0.0
        for t in steps:
            x = process.q_sample(x0, torch.full((len(x0),), t), noise).to(student.device)
            ours, theirs = one(x, t).x0, other(x, t).x0
            apart += (ours - theirs).square().sum().item()
            total += theirs.square().sum().item()
        found[w] = (apart / total) ** 0.5
    return found


def _denoiser(pipe: Pipeline, requests: list[ImageRequest], w: float) -> GuidedDenoiser:
    """The guided denoiser of a pipeline, its x0 within the bounds of pictures."""
    context = pipe.for_run(len(requests)).context
    cond = context.conditioner.of(requests)
    inputs = GuidanceInputs(context, requests, cond, SamplingConfig().options)
    guidances = inputs.make(GuidanceSpec.parse(f"cfg:{w}")) if w != 1.0 else []
    return GuidedDenoiser(context.predict, cond, guidances, x0_maps=[pipe.model.first_stage.clamp])


def times(args: Students, student: Pipeline, teacher: Pipeline) -> str:
    """Seconds for a picture of each by its default settings, measured in turn, and their ratio."""
    requests = [
        ImageRequest(i, scene.caption) for i, scene in enumerate(held_out_scenes(args.pictures, seed=0))
    ]

    def drawer(pipe: Pipeline) -> Callable[[], None]:
        def draw() -> None:
            for _ in pipe.draw(requests, SamplingConfig(guidance="cfg", scale=args.scale)):
                pass

        return draw

    seconds: dict[str, list[float]] = {"student": [], "teacher": []}
    for repeat in range(args.repeats + 1):
        for name, pipe in (("student", student), ("teacher", teacher)):  # in turn
            elapsed = timed(drawer(pipe), pipe.device) / len(requests)
            if repeat:  # the first warms up
                seconds[name].append(elapsed)
    ours, theirs = (median(seconds[name]) for name in ("student", "teacher"))
    steps = [pipe.steps(SamplingConfig()) for pipe in (student, teacher)]
    return (
        f"a picture of {len(requests)}, guidance {args.scale:g}: student {ours:.4f} s ({steps[0]} steps), teacher "
        f"{theirs:.4f} s ({steps[1]} steps), ratio {ours / theirs:.3f}; {torch.get_num_threads()} threads, "
        f"{student.dtype}"
    )


if __name__ == "__main__":
    run(main)
