"""Compare guidances at several strengths: draw, judge, write a table, pictures and a plot."""

from __future__ import annotations

import math
from dataclasses import replace

from glide.utils.errors import InputError
from glide.utils.images import grid, save_png
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from guidance.registry import RERANK_OPTIONS, SHARED_OPTIONS, check_read, read_by
from guidance.spec import GuidanceSpec
from toolkit.commands.data_sweep import sweep_data
from toolkit.commands.guidance_sweep_flags import USUAL_LINES, Sweep
from toolkit.commands.judged import open_pipeline
from toolkit.evaluation.data_sweep import DataPoint, Setting
from toolkit.evaluation.guidance_sweep import SweepPrompts, data_point, measure
from toolkit.evaluation.prompts import classes, held_out, open_captions
from toolkit.evaluation.sweep_results import Point, plot, words, write_csv
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

SHOWN = 8  # captions whose pictures are written, a row for each


def sweep(args: Sweep) -> list[Point] | list[DataPoint]:
    """Draw, judge, write the table (again after every point), the pictures and the plot. InputError beforehand."""
    args.check()
    if args.best_of > 1 and args.ask == "class":
        raise InputError(
            f"got --best-of {args.best_of} --ask class, expected captions, which a CLIP can read: leave one out"
        )
    runs = plan(args)
    if args.data is not None:
        return sweep_data(args, lambda pipe: [Setting(*run) for run in runs], "scale")
    if not args.no_plot:
        figure()  # whether there is matplotlib, before the work
    shown = [picture_name(line, scale) for line, scale, _ in runs]
    results = Results(args.out, ("sweep.csv", "sweep.png", *shown), args.overwrite)
    pipe = open_pipeline(args, captions=args.ask == "caption")
    with results:
        kinds = args.kinds if args.ask == "caption" else ("one",)
        points = [data_point(args.captions, kinds, args.seed)]
        for line, scale, settings in progress(runs, desc="sweep", unit="point"):
            prompts = _prompts(args, pipe, settings)
            point, pixels = measure(pipe, settings, prompts, args.guiding, args.batch_size, args.seed)
            points.append(replace(point, guidance=line, scale=scale))
            rows = grid(pixels[: SHOWN * args.pictures], columns=args.pictures)
            save_png(results.path(picture_name(line, scale)), rows)
            write_csv(results.path("sweep.csv"), points)
            say(words(points[-1]))
        if not args.no_plot:
            plot(results.path("sweep.png"), points, args.model)
    return points


def _prompts(args: Sweep, pipe: Pipeline, settings: SamplingConfig) -> SweepPrompts:
    """Captions, or with --ask class the classes of the guidance. InputError for classes that cannot be judged."""
    if args.ask == "class":
        opened = classes(pipe.classes(settings))
        closed = [opened[i % len(opened)] for i in range(args.captions)]
    else:
        opened = open_captions(args.open_captions, args.seed)
        closed = held_out(args.captions, args.kinds, args.seed)
    return SweepPrompts(closed, opened, args.pictures, args.best_of)


def picture_name(line: str, scale: float) -> str:
    """The file name of a point's pictures."""
    strength = "" if math.isnan(scale) else f"-{scale:g}"
    return line.replace(":", "").replace("+", "-") + strength + ".png"


def plan(args: Sweep) -> list[tuple[str, float, SamplingConfig]]:
    """Every point: its line of the plot, its scale (NaN where several guidances have their own), its settings.

    InputError for unknown guidances, and for options that belong to none of them.
    """
    runs = [[GuidanceSpec.parse(part) for part in text.split("+")] for text in args.guidance or USUAL_LINES]
    ranked = RERANK_OPTIONS if args.best_of > 1 else frozenset()
    check_read([term for terms in runs for term in terms], args.guiding.given(), ranked)
    found = []
    for terms in runs:
        one = len(terms) == 1
        line = terms[0].without_scale if one else "+".join(str(term) for term in terms)
        swept = any(term.scale is None and term.name != "none" for term in terms)
        for scale in args.scales if swept else (None,):
            parts = tuple(str(term) for term in terms)
            options = args.guiding.of(read_by(terms) | SHARED_OPTIONS)
            settings = args.settings(parts, scale, options)
            # a strength that goes through several scales has its own line
            shown = scale if swept else terms[0].scale if one and line != str(terms[0]) else None
            found.append((line, math.nan if shown is None else shown, settings))
    return found
