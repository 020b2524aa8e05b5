"""Measure inpainting: paint things into masked corners, and let the oracle judge."""

from __future__ import annotations

import torch

from glide.utils.atomic_write import write_text
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.commands.evaluate_inpainting_flags import EvaluateInpainting
from toolkit.commands.judged import for_run, open_pipeline
from toolkit.evaluation.inpainting import Answer, cases, paint_and_judge, table
from toolkit.pipelines.inpaint import plan

NAMES = ("inpainting.md", "right.png", "right.txt", "wrong.png", "wrong.txt")


def evaluate_inpainting(args: EvaluateInpainting) -> list[Answer]:
    """Paint, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    args.check()
    results = Results(args.out, NAMES, args.overwrite)
    pipe = open_pipeline(args)
    settings = args.settings("none" if args.scale == 1 else "cfg", args.scale)
    found = cases(args.scenes, args.seed)
    size = pipe.model.config.picture_size
    how = plan(pipe, found[0].unknown(size), settings, args.method, context=float("inf"))
    run, at_once = for_run(args, pipe, len(found))
    with results:
        judged = paint_and_judge(run, found, how, at_once, args.seed)
        answers = list(progress(judged, total=len(found), desc=how.method, unit="picture"))
        for word in ("right", "wrong"):
            shown = [answer for answer in answers if answer.holds["right"] == (word == "right")][:64]
            if shown:
                save_png(results.path(f"{word}.png"), grid(torch.stack([a.pixels for a in shown]), columns=8))
                captions = "".join(f"{answer.case.caption}\n" for answer in shown)
                write_text(results.path(f"{word}.txt"), captions)
        report = table(answers)
        write_text(results.path("inpainting.md"), report + "\n")
    say(report, result=True)
    return answers
