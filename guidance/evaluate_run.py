"""What scripts/evaluate.py does: captions never trained on, drawn at several guidance scales, judged by the oracle."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from glide.errors import InputError
from glide.images import grid, save_png
from glide.shapes import held_out_scenes
from guidance.evaluate import Tally, judge_model, table, write_csv
from guidance.judged_run import JudgedRun


@dataclass(frozen=True)
class Evaluate(JudgedRun):
    """Settings of an evaluation by the oracle."""

    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    """Classifier-free guidance scales; 1 is none."""
    out: Path = Path("outputs/evaluate")
    """Receives evaluate.csv, evaluate.md and, for each scale, pictures of right and of wrong captions."""


def evaluate(args: Evaluate) -> dict[str, Tally]:
    """Draw, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    args.check()
    pipe = args.pipeline()
    if pipe.model.text is None:
        raise InputError(f"{args.model} draws no captions; give a text model trained on the built-in scenes.")
    scenes = held_out_scenes(args.captions, args.kinds, args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    tallies: dict[str, Tally] = {}
    for scale in args.scales:
        name = f"cfg {scale:g}"
        settings = args.settings("none" if scale == 1 else "cfg", scale)
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
