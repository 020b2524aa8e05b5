"""A sweep over guidances or samplers that is judged by pictures of one's own, for the two commands that sweep."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from glide.networks.picture_sizes import default_size
from glide.utils.device import find_device
from glide.utils.errors import warn
from glide.utils.images import grid, save_png
from glide.utils.plots import figure
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.results_folder import Results
from toolkit.commands.judged_flags import JudgedSweep
from toolkit.evaluation.data_sweep import DataJudge, DataPoint, Setting, plot, words, write_csv
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import features_named
from toolkit.evaluation.picture_sets import open_pictures
from toolkit.evaluation.sample_size import too_small
from toolkit.pipelines.pipeline import Pipeline

SHOWN = 32  # pictures of each point on its sheet


def sweep_data(
    args: JudgedSweep, plan: Callable[[Pipeline], Sequence[Setting]], axis: str
) -> list[DataPoint]:
    """Draw, compare with the data, write the table (again after every point), sheets and the plot.

    axis: name of the points' values. InputError for what cannot be used, before anything is drawn.
    """
    assert args.data is not None
    if not args.no_plot:
        figure()  # whether there is matplotlib, before the work
    results = Results(args.out, ("sweep.csv", "sweep.png"), args.overwrite)
    device = find_device(args.device)
    features = features_named(args.judge, device)
    pipe = Pipeline.from_pretrained(args.model, device, args.dtype, args.call_size)
    settings = plan(pipe)
    size = default_size(pipe.model.config)
    data = open_pictures(
        args.data,
        split="held_out" if args.held_out else None,
        share=args.held_out,
        count=args.real,
        seed=args.seed,
        size=size,
    )
    cache = FeatureCache(Path(os.environ.get("GLIDE_CACHE") or args.out) / "features", features)
    with results:
        judge = DataJudge.of(pipe, data, features, cache, args.captions, args.seed)
        for text in too_small(args.captions, len(judge.data), features.width):
            warn(text)
        points: list[DataPoint] = []
        for setting in progress(settings, desc="sweep", unit="point"):
            folder = args.out / folder_name(setting)
            point, drawn = judge.measure(pipe, setting, folder)
            points.append(point)
            shown = [torch.tensor(drawn[i].pixels()) for i in range(min(SHOWN, len(drawn)))]
            save_png(folder.with_suffix(".png"), grid(torch.stack(shown), columns=8))
            write_csv(results.path("sweep.csv"), points, axis)
            say(words(point))
        if not args.no_plot:
            plot(
                results.path("sweep.png"), points, f"{args.model} against {args.data}, by {args.judge}", axis
            )
    return points


def folder_name(setting: Setting) -> str:
    """The folder of a point's pictures."""
    text = setting.line + ("" if setting.value != setting.value else f"-{setting.value:g}")
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text).replace(".", "_")
