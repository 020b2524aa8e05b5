"""Measure prompt fidelity: draw captions that no training saw at several guidance scales, and let the oracle judge.

With an upsampler the pictures are enlarged, and judged again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch

from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.oracle import Oracle
from glide.utils.atomic_write import write_text
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.commands.evaluate_flags import Evaluate
from toolkit.commands.judged import for_run, open_pipeline
from toolkit.commands.second_stage import load_upscaler
from toolkit.evaluation.prompt_fidelity import Judged, Tally, judge, judge_model, table, write_csv
from toolkit.pipelines.upscale import Upscaler

NAMES = (
    "evaluate.csv",
    "evaluate.md",
    "cfg*-right.png",
    "cfg*-wrong.png",
    "cfg*-wrong.txt",
    "cfg-*-at-*.png",
)
SHOWN = 64  # right and wrong pictures that are written, at most, of each scale


def evaluate(args: Evaluate) -> dict[str, Tally]:
    """Draw, judge, write the table and pictures, print the table. InputError for settings that do not fit."""
    args.check()
    results = Results(args.out, NAMES, args.overwrite)
    pipe = open_pipeline(args)
    stage = _stage(args)
    scenes = held_out_scenes(args.captions, args.kinds, args.seed)
    run, at_once = for_run(args, pipe, len(scenes))
    tallies: dict[str, Tally] = {}
    with results:
        for scale in args.scales:
            name = f"cfg {scale:g}"
            settings = args.settings("none" if scale == 1 else "cfg", scale)
            tally = tallies[name] = Tally()
            start = time.perf_counter()
            judged = judge_model(run, scenes, settings, tally, at_once, args.seed)
            drawn = list(progress(judged, total=len(scenes), desc=name, unit="picture"))
            seconds = (time.perf_counter() - start) / len(scenes)
            say(f"{name}: {100 * tally.share('any'):.1f}% of captions drawn right, {seconds:.2f} s a picture")
            if stage is not None:
                large = f"{name} at {stage.scale * pipe.model.config.picture_size}"
                tallies[large] = _judge_enlarged(stage, drawn, args, large, results)
            _write_pictures(results, drawn, scale)
        report = table(tallies)
        write_text(results.path("evaluate.md"), report + "\n")
        write_csv(results.path("evaluate.csv"), tallies)
    say(report, result=True)
    return tallies


def _write_pictures(results: Results, drawn: Sequence[Judged], scale: float) -> None:
    """The first pictures of right captions and of wrong ones, and the wrong captions."""
    for word in ("right", "wrong"):
        shown = [picture for picture in drawn if picture.right == (word == "right")][:SHOWN]
        if shown:
            sheet = grid(torch.stack([picture.pixels for picture in shown]), columns=8)
            save_png(results.path(f"cfg{scale:g}-{word}.png"), sheet)
    wrong = [picture.scene.caption for picture in drawn if not picture.right][:SHOWN]
    write_text(results.path(f"cfg{scale:g}-wrong.txt"), "".join(f"{caption}\n" for caption in wrong))


def _stage(args: Evaluate) -> Upscaler | None:
    """The upsampler of --upsampler, checked."""
    if args.upsampler is None:
        return None
    respacing, noise = args.upsample_respacing, args.upsample_noise
    upscaler = load_upscaler(args.upsampler, args.device, args.dtype, respacing=respacing, noise=noise)
    upscaler.check([ImageRequest(args.seed, "")])
    return upscaler


def _judge_enlarged(
    stage: Upscaler, drawn: Sequence[Judged], args: Evaluate, name: str, results: Results
) -> Tally:
    """The tally of the enlarged pictures; the first ones are written as one picture."""
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
