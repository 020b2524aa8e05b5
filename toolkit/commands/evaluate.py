"""What scripts/evaluate.py does: captions never trained on, drawn at several guidance scales, judged by the oracle.

With an upsampler what was drawn is enlarged, and judged again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
from tyro.conf import arg

from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.oracle import Oracle
from glide.utils.atomic_write import write_text
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.evaluation.oracle_run import JudgedRun
from toolkit.evaluation.prompt_fidelity import Judged, Tally, judge, judge_model, table, write_csv
from toolkit.pipelines.upscale import Upsampling, Upscaler

NAMES = (
    "evaluate.csv",
    "evaluate.md",
    "cfg*-right.png",
    "cfg*-wrong.png",
    "cfg*-wrong.txt",
    "cfg-*-at-*.png",
)


@dataclass(frozen=True)
class Evaluate(JudgedRun):
    """Settings of an evaluation by the oracle."""

    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    """Classifier-free guidance scales; 1 is none."""
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """Enlarge each picture by this upsampler, and judge it large too: a folder, an embedded name or a hub id."""
    upsample_respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Steps of the upsampler ("16", "fast27"); by default as in sample.py."""
    upsample_noise: float = 0.0
    """Noise that is added to each picture before it is enlarged, 0 to below 1."""
    out: Path = Path("outputs/evaluate")
    """Receives evaluate.csv, evaluate.md and, for each scale, pictures of right and of wrong captions."""


def evaluate(args: Evaluate, upsampling: Upsampling | None = None) -> dict[str, Tally]:
    """Draw, judge, write the table and pictures, print the table. InputError for settings that do not fit.

    upsampling: what --upsampler needs.
    """
    args.check()
    results = Results(args.out, NAMES, args.overwrite)
    pipe = args.pipeline()
    stage = _stage(args, upsampling)
    scenes = held_out_scenes(args.captions, args.kinds, args.seed)
    run, at_once = args.for_run(pipe, len(scenes))
    tallies: dict[str, Tally] = {}
    with results:
        for scale in args.scales:
            name = f"cfg {scale:g}"
            settings = args.settings("none" if scale == 1 else "cfg", scale)
            tally = tallies[name] = Tally()
            shown: dict[bool, list[torch.Tensor]] = {True: [], False: []}
            wrong = []
            start = time.perf_counter()
            judged = judge_model(run, scenes, settings, tally, at_once, args.seed)
            drawn = []
            for picture in progress(judged, total=len(scenes), desc=name, unit="picture"):
                drawn.append(picture)
                shown[picture.right].append(picture.pixels)
                if not picture.right:
                    wrong.append(picture.scene.caption)
            seconds = (time.perf_counter() - start) / len(scenes)
            say(f"{name}: {100 * tally.share('any'):.1f}% of captions drawn right, {seconds:.2f} s a picture")
            if stage is not None:
                size = stage.scale * pipe.model.config.unet.image_size
                large = f"{name} at {size}"
                tallies[large] = _judge_enlarged(stage, drawn, args, large, results)
            for right, pictures in shown.items():
                if pictures:
                    word = "right" if right else "wrong"
                    sheet = grid(torch.stack(pictures[:64]), columns=8)
                    save_png(results.path(f"cfg{scale:g}-{word}.png"), sheet)
            captions = "".join(f"{caption}\n" for caption in wrong[:64])
            write_text(results.path(f"cfg{scale:g}-wrong.txt"), captions)
        report = table(tallies)
        write_text(results.path("evaluate.md"), report + "\n")
        write_csv(results.path("evaluate.csv"), tallies)
    say(report, result=True)
    return tallies


def _stage(args: Evaluate, upsampling: Upsampling | None) -> Upscaler | None:
    if args.upsampler is None:
        return None
    assert upsampling is not None
    stage = Upscaler.load(args.upsampler, upsampling, args.device, args.dtype)
    spec = args.upsample_respacing or stage.settings.respacing
    stage = replace(stage, settings=replace(stage.settings, respacing=spec), noise=args.upsample_noise)
    stage.check([ImageRequest(args.seed, "")])
    return stage


def _judge_enlarged(
    stage: Upscaler, drawn: Sequence[Judged], args: Evaluate, name: str, results: Results
) -> Tally:
    """The tally of pictures once they are enlarged; the first ones are written as one picture."""
    oracle, tally = Oracle(), Tally()
    large: list[torch.Tensor] = []
    for index, picture in enumerate(progress(drawn, desc=name, unit="picture")):
        pixels = stage.enlarged(picture.pixels, ImageRequest(args.seed + index, picture.scene.caption))
        judge(oracle, picture.scene, pixels, tally)
        if len(large) < 16:
            large.append(pixels)
    say(f"{name}: {100 * tally.share('any'):.1f}% of captions right once enlarged")
    save_png(results.path(f"{name.replace(' ', '-')}.png"), grid(torch.stack(large), columns=4))
    return tally
