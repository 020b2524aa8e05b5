"""What scripts/guidance_sweep.py does: guidances at several strengths, how faithful and how diverse they draw."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from glide.networks.fixed_batch import whole_calls
from glide.shapes.dataset import held_out_scenes, render
from glide.shapes.oracle import Oracle
from glide.utils.errors import InputError
from glide.utils.images import grid, save_png, to_uint8
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from guidance.clip.rerank import best_places
from guidance.names import FOR_ALL, READ_BY_RERANK, check_read, read_by
from guidance.options import DEFAULT_OPTIONS, Options
from guidance.spec import GuidanceSpec
from toolkit.evaluation.diversity import Spread, mean, of_data, saturation
from toolkit.evaluation.oracle_run import JudgedRun, drawn
from toolkit.evaluation.prompts import classes, held_out, open_captions
from toolkit.evaluation.sweep_results import Point, plot, words, write_csv
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

USUAL_LINES = ("none", "cfg", "cfg@200-800", "apg")
SHOWN = 8  # captions whose pictures are written, a row for each


@dataclass(frozen=True)
class Sweep(JudgedRun):
    """Settings of a sweep."""

    captions: int = 200
    """Held-out captions (or pictures of all classes together), of which the share drawn right is the fidelity."""
    guidance: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][@FROM-TO][+...]")] = ()
    """As of sample.py; repeat the flag for several lines of the plot. Without SCALE it is run at all of --scales.
    Several at once are joined by +. By default none, cfg, cfg@200-800 and apg."""
    scales: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0, 8.0)
    guiding: Annotated[Options, OmitArgPrefixes] = DEFAULT_OPTIONS
    """Of single guidances, whose names are in brackets."""
    best_of: int = 1
    """Over 1: so many pictures of each held-out caption are drawn, and that one is judged which fits it best, as --clip
    finds (sample.py's --rerank)."""
    ask: Literal["caption", "class"] = "caption"
    """class: the model is told no caption; --guidance classifier says what to draw, and only that is judged."""
    open_captions: int = 15
    """Captions that leave open where, how large and of which colour a thing is."""
    pictures: int = 8
    """Pictures of each of those (or of each class), among which the diversity is measured."""
    out: Path = Path("outputs/sweep")
    """Receives sweep.csv, sweep.png and, for each point, pictures of the open captions, a row for each."""
    no_plot: bool = False
    """Only the table; a plot needs matplotlib."""


def sweep(args: Sweep) -> list[Point]:
    """Draw, judge, write the table (anew after every point), the pictures and the plot. InputError beforehand."""
    args.check()
    if args.best_of > 1 and args.ask == "class":
        raise InputError(
            f"got --best-of {args.best_of} --ask class, expected captions, which a CLIP can read: leave one out"
        )
    if not args.no_plot:
        figure()  # whether there is matplotlib, before the work
    runs = plan(args)
    shown = [picture_name(line, scale) for line, scale, _ in runs]
    results = Results(args.out, ("sweep.csv", "sweep.png", *shown), args.overwrite)
    pipe = args.pipeline(captions=args.ask == "caption")
    with results:
        points = [data_point(args)]
        for line, scale, settings in progress(runs, desc="sweep", unit="point"):
            point, pixels = measure(pipe, settings, args)
            points.append(replace(point, guidance=line, scale=scale))
            rows = grid(pixels[: SHOWN * args.pictures], columns=args.pictures)
            save_png(results.path(picture_name(line, scale)), rows)
            write_csv(results.path("sweep.csv"), points)
            say(words(points[-1]))
        if not args.no_plot:
            plot(results.path("sweep.png"), points, args.model)
    return points


def picture_name(line: str, scale: float) -> str:
    """Of the pictures of a point."""
    strength = "" if math.isnan(scale) else f"-{scale:g}"
    return line.replace(":", "").replace("+", "-") + strength + ".png"


def plan(args: Sweep) -> list[tuple[str, float, SamplingConfig]]:
    """Every point: its line of the plot, its scale (NaN where there is no one scale), how it is drawn.

    InputError for guidances that there are not, and options that belong to none of them.
    """
    runs = [[GuidanceSpec.parse(part) for part in text.split("+")] for text in args.guidance or USUAL_LINES]
    ranked = READ_BY_RERANK if args.best_of > 1 else frozenset()
    check_read([term for terms in runs for term in terms], args.guiding, ranked)
    found = []
    for terms in runs:
        one = len(terms) == 1
        line = terms[0].name + terms[0].at if one else "+".join(str(term) for term in terms)
        swept = any(term.scale is None and term.name != "none" for term in terms)
        for scale in args.scales if swept else (None,):
            parts = tuple(str(term) for term in terms)
            options = args.guiding.of(read_by(terms) | FOR_ALL)
            settings = args.settings(parts, scale, options)
            shown = scale if swept else terms[0].scale if one else None
            found.append((line, math.nan if shown is None else shown, settings))
    return found


def measure(pipe: Pipeline, settings: SamplingConfig, args: Sweep) -> tuple[Point, Tensor]:
    """The point, still without its name; and the pictures of the open captions, uint8 [N,H,W,3]."""
    if args.ask == "class":
        opened = classes(pipe.classes(settings))
        closed = [opened[i % len(opened)] for i in range(args.captions)]
    else:
        opened = open_captions(args.open_captions, args.seed)
        closed = held_out(args.captions, args.kinds, args.seed)
    candidates = [asked for asked in closed for _ in range(args.best_of)]
    several = [asked for asked in opened for _ in range(args.pictures)]
    oracle, spread = Oracle(), Spread()
    start = time.perf_counter()
    with counted(pipe, settings) as count:
        pixels = to_uint8(drawn(pipe, settings, [*candidates, *several], args.batch_size, args.seed))
    seconds = (time.perf_counter() - start) / len(pixels)
    size = pipe.for_run(len(pixels)).call_size or 1
    calls = count[0] / whole_calls(len(pixels), size)  # places that were filled went through the networks too
    if args.best_of > 1:
        drawn_of_closed, drawn_of_open = pixels[: len(candidates)], pixels[len(candidates) :]
        best = best_places(pipe.guides.clip(args.guiding), drawn_of_closed, [one.caption for one in closed])
        pixels = torch.cat([drawn_of_closed[best], drawn_of_open])
    judged = [
        oracle.judge(picture.numpy(), asked.facts)
        for picture, asked in zip(pixels, [*closed, *several], strict=True)
    ]
    right = sum(judgement.all_right for judgement in judged[: len(closed)])
    for i, asked in enumerate(opened):
        first = len(closed) + i * args.pictures
        of_caption = judged[first : first + args.pictures]
        spread.add(asked.facts, [judgement.reading for judgement in of_caption if judgement.all_right])
    point = Point(
        guidance="",
        scale=math.nan,
        right=right,
        asked=len(closed),
        fidelity=right / len(closed),
        compared=spread.pictures,
        diversity=spread.all,
        position=spread.of("position"),
        size=spread.of("size"),
        color=spread.of("color"),
        background=spread.of("background"),
        saturation=saturation(pixels[: len(closed)]),
        calls=calls,
        seconds=seconds,
    )
    return point, pixels[len(closed) :]


@contextmanager
def counted(pipe: Pipeline, settings: SamplingConfig) -> Iterator[list[int]]:
    """A list of one number, the pictures that went through U-Nets within."""
    count = [0]

    def add(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        count[0] += len(inputs[0])

    nets = [pipe.unet]
    if any(term.name == "auto" for term in settings.terms):
        nets.append(pipe.guides.weak(settings.options).unet)
    hooks = [net.register_forward_pre_hook(add) for net in nets]
    try:
        yield count
    finally:
        for hook in hooks:
            hook.remove()


def data_point(args: Sweep) -> Point:
    """The data itself, for comparison: what it leaves open, as diverse as it is; nothing is drawn."""
    diversity = of_data(held_out_scenes(4000, ("one",), args.seed))
    scenes = held_out_scenes(args.captions, args.kinds if args.ask == "caption" else ("one",), args.seed)
    colours = saturation(torch.from_numpy(render(scenes, 64)))
    return Point(
        guidance="data",
        scale=math.nan,
        right=len(scenes),
        asked=len(scenes),
        fidelity=1.0,
        compared=0,
        diversity=mean(diversity.values()),
        position=diversity["position"],
        size=diversity["size"],
        color=diversity["color"],
        background=diversity["background"],
        saturation=colours,
        calls=0.0,
        seconds=0.0,
    )
