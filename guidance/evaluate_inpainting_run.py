"""What scripts/evaluate_inpainting.py does: things painted into masked corners, judged by the oracle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from tqdm import tqdm
from tyro.conf import arg

from glide.errors import InputError
from glide.images import grid, save_png
from guidance.evaluate_inpainting import Answer, cases, paint_and_judge, table
from guidance.inpaint import plan
from guidance.pipeline import Pipeline
from guidance.settings import Settings, spec_of_steps
from guidance.solver_names import SAMPLER_HELP, SPACING_HELP, USUAL_SAMPLER, USUAL_STEPS


@dataclass(frozen=True)
class EvaluateInpainting:
    """Settings of an evaluation of inpainting by the oracle."""

    model: str = "shapes"
    """A folder, an embedded name or a hub id."""
    scenes: int = 300
    """Half of them hold nothing but the background, half a thing that stays."""
    method: Literal["model", "repaint", "replace"] | None = None
    """As of inpaint.py: by default model where the model was trained to inpaint, else repaint."""
    scale: float = 3.0
    """Of classifier-free guidance; 1 is none."""
    steps: int = USUAL_STEPS
    spacing: Annotated[str | None, arg(metavar="NAME", help=SPACING_HELP)] = None
    sampler: Annotated[str, arg(metavar="NAME", help=SAMPLER_HELP)] = USUAL_SAMPLER
    eta: float = 0.0
    seed: int = 0
    """Of the scenes and of the noise."""
    batch_size: int = 32
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: str = "auto"
    out: Path = Path("outputs/evaluate-inpainting")
    """Receives inpainting.md and pictures that are right and that are wrong."""


def evaluate_inpainting(args: EvaluateInpainting) -> list[Answer]:
    """Paint, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    if args.scenes < 1 or args.batch_size < 1:
        raise InputError(
            f"got --scenes {args.scenes} --batch-size {args.batch_size}, expected at least 1 of each: give more"
        )
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, call_size=args.batch_size)
    if pipe.model.text is None:
        raise InputError(
            f"got {args.model}, which draws no captions, expected a text model of the built-in scenes: give one"
        )
    guidance = "none" if args.scale == 1 else "cfg"
    spec = spec_of_steps(args.steps)
    settings = Settings(args.sampler, spec, args.eta, guidance, args.scale, spacing=args.spacing)
    found = cases(args.scenes, args.seed)
    size = pipe.model.config.unet.image_size
    how = plan(pipe, found[0].unknown(size), settings, args.method, context=float("inf"))
    judged = paint_and_judge(pipe, found, how, args.batch_size, args.seed)
    answers = list(tqdm(judged, total=len(found), desc=how.method, unit="picture"))
    args.out.mkdir(parents=True, exist_ok=True)
    for word in ("right", "wrong"):
        shown = [answer for answer in answers if answer.holds["right"] == (word == "right")][:64]
        if shown:
            save_png(args.out / f"{word}.png", grid(torch.stack([a.pixels for a in shown]), columns=8))
            captions = "".join(f"{answer.case.caption}\n" for answer in shown)
            (args.out / f"{word}.txt").write_text(captions)
    report = table(answers)
    (args.out / "inpainting.md").write_text(report + "\n")
    print(report)
    return answers
