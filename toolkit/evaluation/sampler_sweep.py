"""What scripts/solver_sweep.py does: solvers with few network calls, how right they draw and how far from many."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from glide.diffusion.denoiser import Prediction
from glide.diffusion.process import Process
from glide.diffusion.samplers.registry import SAMPLERS, check_spacing, find_sampler, translate_sampler
from glide.diffusion.timestep_spacing import spaced
from glide.shapes.oracle import Oracle
from glide.utils.atomic_write import write_text
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.images import grid, save_png, to_uint8
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import COUNT
from glide.utils.results_folder import Results
from guidance.names import check_read
from guidance.options import DEFAULT_OPTIONS, Options
from toolkit.evaluation.oracle_run import JudgedRun, drawn
from toolkit.evaluation.prompts import Prompt, held_out
from toolkit.evaluation.solver_points import SolverPoint, plot, standard_error, table, words
from toolkit.evaluation.sweep_results import write_csv
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps

USUAL_LINES = (*SAMPLERS, "ddpm:250")
SHOWN = 32  # pictures of each point that are written
LINE = re.compile(r"([a-z0-9-]+?)(?::(\d+))?(?:@([a-z-]+))?")


@dataclass(frozen=True)
class SolverSweep(JudgedRun):
    """Settings of a sweep over solvers."""

    captions: int = 200
    """Held-out captions, of which the share drawn right is the accuracy."""
    solver: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:CALLS][@SPACING]")] = ()
    """A --sampler of sample.py, with a --spacing of its; repeat the flag for several lines of the plot. Without CALLS
    it is run at all of --calls. By default every one with the usual spacing, and ddpm:250."""
    calls: tuple[int, ...] = (5, 8, 10, 15, 20, 30, 50)
    """Network calls for a picture: each solver takes as many steps as they allow."""
    steps: int = 1000
    """Of the reference, with whose pictures of the same noise all others are compared."""
    sampler: Annotated[str, arg(metavar="NAME")] = "ddim"
    """Of the reference: one that draws no noise on the way."""
    spacing: Annotated[str | None, arg(metavar="NAME")] = None
    """Of the reference."""
    eta: float = 0.0
    """Of the reference: 0."""
    guidance: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][@FROM-TO]")] = ("cfg",)
    """As of sample.py, of all."""
    scale: float | None = None
    guiding: Annotated[Options, OmitArgPrefixes] = DEFAULT_OPTIONS
    """Of single guidances, whose names are in brackets."""
    dtype: DType = AUTO
    """Distances show the rounding of others."""
    out: Path = Path("outputs/solver-sweep")
    """Receives solvers.csv, solvers.md, solvers.png and, for each point, its first pictures."""
    no_plot: bool = False
    """Only the tables; a plot needs matplotlib."""


@dataclass(frozen=True)
class Line:
    """One solver of a sweep."""

    text: str
    sampler: str
    calls: int | None
    """None is all of the sweep's."""
    spacing: str | None

    @classmethod
    def parse(cls, text: str) -> Line:
        """NAME[:CALLS][@SPACING]. InputError for what is written otherwise, or names none that there is."""
        match = LINE.fullmatch(text)
        if match is None:
            raise InputError(
                f"got the solver {text!r}, expected NAME, NAME:CALLS or NAME:CALLS@SPACING: try heun@karras"
            )
        name, calls, spacing = match.groups()
        find_sampler(name)
        if spacing is not None:
            check_spacing(spacing)
        count = None if calls is None else COUNT.read_whole(calls, f"the solver {name} with the calls")
        return cls(text, name, count, spacing)


def solver_sweep(args: SolverSweep) -> list[SolverPoint]:
    """Draw, judge, write the tables (anew after every point), the pictures and the plot. InputError beforehand.

    The first point is the reference.
    """
    lines = check(args)
    if not args.no_plot:
        figure()  # whether there is matplotlib, before the work
    truth_line = f"{args.sampler}, {args.steps} steps"
    shown = [f"{stem(line)}-*.png" for line in (truth_line, *(line.text for line in lines))]
    results = Results(args.out, ("solvers.csv", "solvers.md", "solvers.png", *shown), args.overwrite)
    pipe = args.pipeline()
    truth = args.settings(args.guidance, args.scale, args.guiding)
    pipe.steps(truth)
    runs = [(truth_line, truth)]
    runs += plan(lines, args.calls, truth, pipe.model.process)
    asked = held_out(args.captions, args.kinds, args.seed)
    with results:
        reference: Tensor | None = None
        points: list[SolverPoint] = []
        for line, settings in progress(runs, desc="solvers", unit="point"):
            start = time.perf_counter()
            x = drawn(pipe, settings, asked, args.batch_size, args.seed)
            seconds = (time.perf_counter() - start) / len(asked)
            reference = x if reference is None else reference
            right = count_right(to_uint8(x), asked)
            point = _point(line, settings, pipe.process(settings), right, len(asked))
            distance = math.nan if find_sampler(settings.sampler).draws_noise else rms(x - reference)
            points.append(point := replace(point, distance=distance, seconds=seconds))
            save_png(results.path(f"{stem(line)}-{point.calls}.png"), grid(to_uint8(x[:SHOWN]), columns=8))
            write_csv(results.path("solvers.csv"), points)
            write_text(results.path("solvers.md"), table(points) + "\n")
            say(words(point))
        if not args.no_plot:
            plot(results.path("solvers.png"), points[1:], points[0], args.model)
    say(table(points), result=True)
    return points


def stem(line: str) -> str:
    """What the names of a line's pictures begin with."""
    return re.sub("[, :]+", "-", line)


def _point(line: str, settings: SamplingConfig, process: Process, right: int, asked: int) -> SolverPoint:
    """Without distance and time."""
    return SolverPoint(
        line=line,
        sampler=settings.sampler,
        spacing=settings.spaced,
        steps=len(process),
        calls=network_calls(process, settings.sampler),
        right=right,
        asked=asked,
        accuracy=right / asked,
        error=standard_error(right, asked),
        distance=math.nan,
        seconds=math.nan,
    )


def check(args: SolverSweep) -> list[Line]:
    """The lines of the plot. InputError for what can be seen to be wrong without a model."""
    args.check()
    lines = [Line.parse(text) for text in args.solver or USUAL_LINES]
    if not args.calls and any(line.calls is None for line in lines):
        raise InputError(
            "got --calls without a number, expected at least one: give --calls 5 10 20 or the like"
        )
    sampler, _ = translate_sampler(args.sampler)
    if find_sampler(sampler).draws_noise or args.eta:
        raise InputError(
            f"got the reference {args.sampler} with eta {args.eta:g}, which draws noise on the way, expected one that "
            "does not: leave --sampler and --eta out"
        )
    check_read(args.settings(args.guidance, args.scale, args.guiding).terms, args.guiding)
    return lines


def plan(
    lines: Sequence[Line], calls: Sequence[int], usual: SamplingConfig, process: Process
) -> list[tuple[str, SamplingConfig]]:
    """The points, each with its line's name: solver, spacing and steps in place of those of the usual settings."""
    found = []
    for line in lines:
        for budget in calls if line.calls is None else (line.calls,):
            settings = replace(usual, sampler=line.sampler, spacing=line.spacing, respacing="1")
            steps = most_steps(process, settings, budget)
            found.append((line.text, replace(settings, respacing=spec_of_steps(steps))))
    return found


def most_steps(process: Process, settings: SamplingConfig, budget: int) -> int:
    """The most steps that a sampler takes with so many network calls, at least 1."""
    for steps in range(min(budget, len(process)), 1, -1):
        kept = spaced(process, str(steps), replace(settings, respacing=str(steps)).spaced)
        if network_calls(process.respaced(kept), settings.sampler) <= budget:
            return steps
    return 1


def network_calls(process: Process, sampler: str) -> int:
    """How often a sampler asks its denoiser on the way down this (respaced) process: counted, on a single pixel."""
    count = 0

    def denoise(x: Tensor, t: int) -> Prediction:
        nonlocal count
        count += 1
        return Prediction(torch.zeros_like(x))

    x = torch.zeros(1, 1, 1, 1)
    run = find_sampler(sampler).run(process, denoise, x, torch.zeros_like, eta=0.0, variance="fixed_small")
    for _ in run:
        pass
    return count


def count_right(pixels: Tensor, asked: Sequence[Prompt]) -> int:
    """How many of the pictures, uint8 [N,H,W,3], show all that was asked, as the oracle sees."""
    oracle = Oracle()
    return sum(
        oracle.judge(picture.numpy(), one.facts).all_right for picture, one in zip(pixels, asked, strict=True)
    )


def rms(x: Tensor) -> float:
    """Root of the mean square of all values."""
    return math.sqrt(x.double().square().mean().item())
