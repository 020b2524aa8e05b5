"""Measure drawing from maps: draw held-out scenes from their maps, and let the oracle judge."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch

from glide.networks.picture_conditions import condition_named
from glide.shapes.scene import SHAPES
from glide.utils.atomic_write import write_text
from glide.utils.errors import InputError
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.commands.evaluate_conditions_flags import EvaluateConditions
from toolkit.commands.judged import for_run, open_pipeline
from toolkit.evaluation.conditions import QUESTIONS, Answer, cases, draw_and_judge, shares

NAMES = ("conditions.md", "right.png", "right.txt", "wrong.png", "wrong.txt")
SPEC = f"map:{len(SHAPES) + 1}"


def evaluate_conditions(args: EvaluateConditions) -> dict[tuple[float, float], dict[str, float]]:
    """Draw, judge, write the table and pictures, print the table; returns its shares by the two strengths.

    The pictures are of the last pair of strengths. InputError for settings that do not fit, and for a model without
    maps of the built-in scenes.
    """
    args.check()
    results = Results(args.out, NAMES, args.overwrite)
    pipe = open_pipeline(args)
    if pipe.model.config.conditions != (SPEC,):
        raise InputError(
            f"{args.model} is conditioned on {', '.join(pipe.model.config.conditions) or 'no picture'}, expected "
            f"{SPEC}, the maps of the built-in scenes: give a model that was trained with --condition {SPEC}"
        )
    found = cases(args.scenes, args.seed, args.colors == "changed")
    run, at_once = for_run(args, pipe, len(found))
    pairs = list(product(args.word_scales, args.picture_scales))
    measured: dict[tuple[float, float], dict[str, float]] = {}
    with results:
        for words, picture in pairs:
            settings = args.settings((f"cfg:{words!r}", f"picture:{picture!r}"))
            judged = draw_and_judge(run, found, settings, at_once, args.seed)
            name = f"cfg {words:g}, picture {picture:g}"
            answers = list(progress(judged, total=len(found), desc=name, unit="picture"))
            measured[words, picture] = shares(answers)
        _write_pictures(results, answers)
        report = table(measured)
        write_text(results.path("conditions.md"), report + "\n")
    say(report, result=True)
    return measured


def table(measured: dict[tuple[float, float], dict[str, float]]) -> str:
    """Percent of the pictures in which each question holds, a row for each pair of strengths."""
    lines = ["| words | picture | " + " | ".join(QUESTIONS) + " |", "|---" * (2 + len(QUESTIONS)) + "|"]
    for (words, picture), found in measured.items():
        cells = [f"{100 * found[question]:.1f}" for question in QUESTIONS]
        lines.append(f"| {words:g} | {picture:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _write_pictures(results: Results, answers: Sequence[Answer]) -> None:
    """Pictures that are right and that are wrong, each to the right of its map, with their captions."""
    kind = condition_named(SPEC)
    for word in ("right", "wrong"):
        shown = [answer for answer in answers if answer.holds["all"] == (word == "right")][:32]
        if not shown:
            continue
        maps = torch.cat([kind.shown(a.case.map(len(a.pixels))[None]) for a in shown]).permute(0, 2, 3, 1)
        pairs = torch.stack([maps, torch.stack([a.pixels for a in shown])], dim=1).flatten(0, 1)
        save_png(results.path(f"{word}.png"), grid(pairs, columns=8))
        write_text(results.path(f"{word}.txt"), "".join(f"{answer.case.caption}\n" for answer in shown))
