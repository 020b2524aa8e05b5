"""Measure an upsampler: enlarge small pictures, compare with the true large ones, write figures and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from torch import Tensor

from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.utils.atomic_write import write_text
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from glide.utils.results_folder import Results
from toolkit.commands.evaluate_upsampler_flags import EvaluateUpsampler
from toolkit.evaluation.picture_sets import open_pictures
from toolkit.evaluation.upsampling import (
    FILTERS,
    Comparison,
    Enlarge,
    Errors,
    Pair,
    compare,
    picture_pairs,
    scene_pairs,
)
from toolkit.pipelines.settings import SamplingConfig, spec_of_steps
from toolkit.pipelines.upscale import Upscaler

NAMES = ("psnr.json", "side-by-side.png")
SHOWN = 8  # pictures side by side, those of the largest error first


def evaluate_upsampler(args: EvaluateUpsampler) -> dict[str, Errors]:
    """Enlarge, compare, write the pictures and figures, print the table; returns the errors by method.

    InputError for settings that do not fit.
    """
    _results(args)  # before the model is read
    stage = Upscaler.load(args.model, args.device, args.dtype)
    usual = replace(stage.settings, temperature=args.temp)
    settings = replace(
        usual,
        sampler=args.sampler or usual.sampler,
        respacing=args.respacing or usual.respacing,
        spacing=args.spacing,
    )

    def by(settings: SamplingConfig) -> Enlarge:
        own = replace(stage, settings=settings, noise=args.noise)
        own.check([ImageRequest(args.seed)])

        def enlarge(pixels: Tensor, caption: str, seed: int) -> Tensor:
            return own.enlarged(pixels, ImageRequest(seed, caption))

        return enlarge

    steps = args.reference_steps
    reference = None if steps is None else by(replace(usual, respacing=spec_of_steps(steps)))
    return measure(args, stage.pipe.model.config, by(settings), reference)


def measure(
    args: EvaluateUpsampler, config: ModelConfig, enlarge: Enlarge, reference: Enlarge | None = None
) -> dict[str, Errors]:
    """The command for any way to enlarge. config: of the upsampler. reference: enlarges with --reference-steps."""
    results = _results(args)
    count, pairs = _pairs(args, config)
    named = None if reference is None else (f"to {args.reference_steps} steps", reference)
    with results:
        bar = progress(pairs, total=count, desc="enlarging", unit="picture")
        found = compare(bar, config, enlarge, args.seed, args.captions, named)
        _write(results, found)
    say(
        f"{count} pictures from {config.low_res_size} to {config.unet.image_size}, "
        f"{found.seconds / count:.2f} s each",
        result=True,
    )
    for name, error in found.errors.items():
        say(f"{name:10s} PSNR {error.psnr:6.2f} dB   median picture {error.median:6.2f} dB", result=True)
    gain = found.errors["upsampler"].psnr - max(found.errors[name].psnr for name in FILTERS)
    say(
        f"the upsampler is {gain:+.2f} dB from the better filter; pictures: {args.out.resolve()}", result=True
    )
    return found.errors


def _pairs(args: EvaluateUpsampler, config: ModelConfig) -> tuple[int, Iterator[Pair]]:
    """The number of pictures, and each at both sizes. InputError for data that cannot be opened."""
    if args.data is None:
        scenes = held_out_scenes(args.pictures, args.kinds, args.seed)
        return len(scenes), scene_pairs(scenes, config)
    pictures = open_pictures(
        args.data,
        split="held_out" if args.held_out else None,
        share=args.held_out,
        count=args.pictures,
        seed=args.seed,
        size=config.unet.image_size,
    )
    return len(pictures), picture_pairs(pictures, config)


def _results(args: EvaluateUpsampler) -> Results:
    """The results to be written. InputError for settings that do not fit, and for results that would be lost."""
    check_numbers(args)
    return Results(args.out, NAMES, args.overwrite)


def _write(results: Results, found: Comparison) -> None:
    figures = {
        name: {"psnr": error.psnr, "median": error.median, "squared_errors": error.squared}
        for name, error in found.errors.items()
    }
    write_text(results.path("psnr.json"), json.dumps(figures, indent=1) + "\n")
    worst = sorted(range(len(found.rows)), key=lambda index: -found.errors["upsampler"].squared[index])[
        :SHOWN
    ]
    sheet = np.stack([picture for index in worst for picture in found.rows[index]])
    save_png(results.path("side-by-side.png"), grid(sheet, columns=4))
