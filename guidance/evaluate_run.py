"""What scripts/evaluate.py does: captions never trained on, drawn at several guidance scales, judged by the oracle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from glide.errors import InputError
from glide.images import grid, save_png
from glide.shapes import held_out_scenes
from guidance.evaluate import Tally, judge_model, table, write_csv
from guidance.pipeline import Pipeline
from guidance.settings import Settings, spec_of_steps


@dataclass(frozen=True)
class Evaluate:
    """Settings of an evaluation by the oracle."""

    model: str = "shapes"
    """A folder, an embedded name or a hub id."""
    captions: int = 500
    """How many held-out captions of the grammar."""
    kinds: tuple[Literal["one", "count", "pair"], ...] = ("one", "count", "pair")
    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    """Classifier-free guidance scales; 1 is none."""
    steps: int = 50
    sampler: str = "ddim"
    eta: float = 0.0
    seed: int = 0
    """Of the captions and of the noise."""
    batch_size: int = 32
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    device: str = "auto"
    out: Path = Path("outputs/evaluate")
    """Receives evaluate.csv, evaluate.md and, for each scale, pictures of right and of wrong captions."""


def evaluate(args: Evaluate) -> dict[str, Tally]:
    """Draw, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    if args.captions < 1 or args.batch_size < 1:
        raise InputError(
            f"--captions {args.captions} --batch-size {args.batch_size}: expected at least 1 of each."
        )
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, call_size=args.batch_size)
    if pipe.model.text is None:
        raise InputError(f"{args.model} draws no captions; give a text model trained on the built-in scenes.")
    scenes = held_out_scenes(args.captions, args.kinds, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tallies: dict[str, Tally] = {}
    for scale in args.scales:
        name = f"cfg {scale:g}"
        guidance = "none" if scale == 1 else "cfg"
        settings = Settings(args.sampler, spec_of_steps(args.steps), args.eta, guidance, scale)
        tally = tallies[name] = Tally()
        shown: dict[bool, list[torch.Tensor]] = {True: [], False: []}
        wrong = []
        start = time.perf_counter()
        judged = judge_model(pipe, scenes, settings, tally, args.batch_size, args.seed)
        for picture in tqdm(judged, total=len(scenes), desc=name, unit="picture"):
            shown[picture.right].append(picture.pixels)
            if not picture.right:
                wrong.append(picture.scene.caption)
        seconds = (time.perf_counter() - start) / len(scenes)
        tqdm.write(
            f"{name}: {100 * tally.share('any'):.1f}% of captions drawn right, {seconds:.2f} s a picture"
        )
        for right, pictures in shown.items():
            if pictures:
                word = "right" if right else "wrong"
                save_png(args.out / f"cfg{scale:g}-{word}.png", grid(torch.stack(pictures[:64]), columns=8))
        (args.out / f"cfg{scale:g}-wrong.txt").write_text("".join(f"{caption}\n" for caption in wrong[:64]))
    report = table(tallies)
    (args.out / "evaluate.md").write_text(report + "\n")
    write_csv(args.out / "evaluate.csv", tallies)
    print(report)
    return tallies
