"""What scripts/evaluate_inpainting.py does: things painted into masked corners, judged by the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from glide.utils.atomic_write import write_text
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.evaluation.inpainting import Answer, cases, paint_and_judge, table
from toolkit.evaluation.oracle_run import JudgedPictures
from toolkit.pipelines.inpaint import plan

NAMES = ("inpainting.md", "right.png", "right.txt", "wrong.png", "wrong.txt")


@dataclass(frozen=True)
class EvaluateInpainting(JudgedPictures):
    """Settings of an evaluation of inpainting by the oracle."""

    scenes: int = 300
    """Half of them hold nothing but the background, half a thing that stays."""
    method: Literal["model", "repaint", "replace"] | None = None
    """As of inpaint.py: by default model where the model was trained to inpaint, else repaint."""
    scale: float = 3.0
    """Of classifier-free guidance; 1 is none."""
    out: Path = Path("outputs/evaluate-inpainting")
    """Receives inpainting.md and pictures that are right and that are wrong."""


def evaluate_inpainting(args: EvaluateInpainting) -> list[Answer]:
    """Paint, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    args.check()
    results = Results(args.out, NAMES, args.overwrite)
    pipe = args.pipeline()
    settings = args.settings("none" if args.scale == 1 else "cfg", args.scale)
    found = cases(args.scenes, args.seed)
    size = pipe.model.config.unet.image_size
    how = plan(pipe, found[0].unknown(size), settings, args.method, context=float("inf"))
    run, at_once = args.for_run(pipe, len(found))
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
