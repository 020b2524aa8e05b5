"""Compare samplers with few network calls: draw, judge, write tables, pictures and a plot."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from glide.diffusion.process import Process
from glide.diffusion.samplers.registry import SAMPLERS, find_sampler, translate_sampler
from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError
from glide.utils.images import grid, save_png, to_uint8
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from guidance.registry import check_read
from toolkit.commands.data_sweep import sweep_data
from toolkit.commands.judged import open_pipeline
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.evaluation.data_sweep import DataPoint, Setting
from toolkit.evaluation.oracle_run import drawn
from toolkit.evaluation.prompts import held_out
from toolkit.evaluation.sampler_sweep import Line, count_right, network_calls, plan, rms
from toolkit.evaluation.solver_points import SolverPoint, plot, standard_error, table, words
from toolkit.evaluation.sweep_results import write_csv
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

USUAL_LINES = (*SAMPLERS, "ddpm:250")
SHOWN = 32  # pictures of each point that are written


def solver_sweep(args: SolverSweep) -> list[SolverPoint] | list[DataPoint]:
    """Draw, judge, write the tables (again after every point), the pictures and the plot. InputError beforehand.

    The first point is the reference.
    """
    lines = check(args)
    if args.data is not None:
        return sweep_data(args, lambda pipe: _settings(args, pipe, lines), "network calls")
    if not args.no_plot:
        figure()  # whether there is matplotlib, before the work
    truth_line = f"{args.sampler}, {args.steps} steps"
    shown = [f"{stem(line)}-*.png" for line in (truth_line, *(line.text for line in lines))]
    results = Results(args.out, ("solvers.csv", "solvers.md", "solvers.png", *shown), args.overwrite)
    pipe = open_pipeline(args)
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


def _settings(args: SolverSweep, pipe: Pipeline, lines: Sequence[Line]) -> list[Setting]:
    """The points of a sweep that pictures of one's own judge."""
    usual = args.settings(args.guidance, args.scale, args.guiding)
    return [
        Setting(line, network_calls(pipe.process(settings), settings.sampler), settings)
        for line, settings in plan(lines, args.calls, usual, pipe.model.process)
    ]


def stem(line: str) -> str:
    """The beginning of the file names of a line's pictures."""
    return re.sub("[, :]+", "-", line)


def _point(line: str, settings: SamplingConfig, process: Process, right: int, asked: int) -> SolverPoint:
    """A point of the plot, still without its distance and time."""
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
    """The lines of the plot. InputError for flags that are wrong whatever the model is."""
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
    check_read(args.settings(args.guidance, args.scale, args.guiding).specs, args.guiding.given())
    return lines
