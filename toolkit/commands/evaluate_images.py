"""Compare sets of pictures, write figures for machines and a page for people, print the figures."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from glide.data.datasets import is_generated
from glide.data.skipped_files import summary as reasons
from glide.networks.picture_sizes import default_size
from glide.utils.atomic_write import write_text
from glide.utils.device import find_device
from glide.utils.errors import InputError, warn
from glide.utils.file_locks import check_free
from glide.utils.parts import Part
from glide.utils.picture_size import parse_size
from glide.utils.printable import say
from glide.utils.results_folder import Results
from glide.version import __version__
from toolkit.commands.evaluate_images_flags import PICTURES, EvaluateImages
from toolkit.evaluation import image_report as html
from toolkit.evaluation.comparison import Comparison, Sets, compare, table
from toolkit.evaluation.drawn_pictures import draw_into, requests_of
from toolkit.evaluation.extraction import Extracted, compute, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import SPATIAL, Features, features_named
from toolkit.evaluation.frechet_distance import Gaussian, Moments
from toolkit.evaluation.image_page import parts
from toolkit.evaluation.npz_batches import (
    has_pictures,
    is_npz,
    read_statistics,
    write_batch,
    write_statistics,
)
from toolkit.evaluation.picture_sets import PartOfSet, PictureSet, open_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig, respacing_of

FIGURES, PAGE, DRAWN = "evaluation.json", "evaluation.html", "generated"


def evaluate_images(args: EvaluateImages) -> list[Comparison]:
    """Draw where a model is given, extract features, measure, write and print; returns a comparison for each features.

    InputError for sets, features and settings that cannot be used, and results that would be lost.
    """
    args.check()
    if args.part is not None:
        return _extract_part(args, Part.parse(args.part))
    start = time.perf_counter()
    results = Results(args.out, (FIGURES, PAGE), args.overwrite)
    for path in (args.save_batch, args.save_statistics):
        if path is not None:
            check_free(path, args.overwrite)
    device = find_device(args.device)
    networks = [features_named(name, device) for name in dict.fromkeys(args.features)]
    pipe = (
        None
        if args.model is None
        else Pipeline.from_pretrained(args.model, device, args.dtype, args.call_size)
    )
    with results:
        sets = _sets(args, pipe, networks)
        found = [_compared(args, sets, features) for features in networks]
        _save(args, sets, found)
        _write(results, args, sets, found, time.perf_counter() - start)
    for one in (found[0].generated, found[0].data, found[0].held_out):
        if one is not None and one.broken:
            say(
                f"{len(one.broken)} pictures of {one.name} were left out, listed in {args.out / FIGURES}: "
                f"{reasons(one.broken)}"
            )
    for text in dict.fromkeys(text for one in found for text in one.warnings):
        warn(text)
    say("\n".join(table(one) for one in found), result=True)
    say(f"page and figures: {args.out.resolve()}", result=True)
    return found


def _extract_part(args: EvaluateImages, part: Part) -> list[Comparison]:
    """Compute the features of a part of each set, and keep them; nothing is compared."""
    device = find_device(args.device)
    networks = [features_named(name, device) for name in dict.fromkeys(args.features)]
    sets = _sets(args, None, networks)
    for features in networks:
        for whole in (sets.generated, sets.data, sets.held_out):
            if whole is None or not (rows := part.of_rows(len(whole))):
                continue
            found = compute(PartOfSet(whole, rows), features, _cache(args, features), args.batch_size)
            say(
                f"part {part} of {whole.name}, {features.name}: {found} of {len(rows)} pictures computed",
                result=True,
            )
    return []


def _cache(args: EvaluateImages, features: Features) -> FeatureCache:
    folder = args.cache or Path(os.environ.get("GLIDE_CACHE") or args.out) / "features"
    return FeatureCache(folder, features)


def _sets(args: EvaluateImages, pipe: Pipeline | None, networks: Sequence[Features]) -> Sets:
    """The pictures of the flags; a model draws its own."""
    size = None if pipe is None else default_size(pipe.model.config)
    size = size if args.image_size is None else parse_size(args.image_size, "--image-size")
    chosen: dict[str, Any] = {"count": args.pictures, "size": size, "seed": args.seed}
    scenes = is_generated(args.data)
    if is_npz(args.data) and not has_pictures(args.data):
        given = {"--model": pipe, "--held-out": args.held_out, "--save-statistics": args.save_statistics}
        if wrong := [flag for flag, value in given.items() if value]:
            raise InputError(
                f"got {wrong[0]} with the statistics {args.data}, expected pictures: leave it out, or give pictures"
            )
        statistics = {one.name: read_statistics(args.data, one.kind == SPATIAL) for one in networks}
        return Sets(_generated(args, chosen), None, None, statistics)
    data = open_pictures(
        args.data, split="train" if scenes or args.held_out else None, share=args.held_out, **chosen
    )
    held_out = None
    if scenes or args.held_out:
        held_out = open_pictures(args.data, split="held_out", share=args.held_out, **chosen)
    if pipe is None:
        return Sets(_generated(args, chosen), data, held_out)
    asked = requests_of(pipe, held_out or data, args.pictures or PICTURES, args.seed)
    usual = "cfg" if pipe.conditioner.has_null else "none"
    settings = SamplingConfig(args.sampler, respacing_of(args.steps), guidance=args.guidance or usual)
    return Sets(draw_into(args.out / DRAWN, pipe, asked, settings, args.batch_size), data, held_out)


def _generated(args: EvaluateImages, chosen: dict[str, Any]) -> PictureSet:
    """The pictures of --generated; built-in scenes are other ones than those of the data."""
    assert args.generated is not None
    if is_generated(args.generated):
        return open_pictures(args.generated, split="held_out", **{**chosen, "seed": args.seed + 1})
    return open_pictures(args.generated, **chosen)


def _compared(args: EvaluateImages, sets: Sets, features: Features) -> Comparison:
    cache = _cache(args, features)

    def of(pictures: PictureSet | None) -> Extracted | None:
        return None if pictures is None else extract(pictures, features, cache, args.batch_size, args.mixed)

    generated = extract(sets.generated, features, cache, args.batch_size, args.mixed)
    return compare(sets, features, generated, of(sets.data), of(sets.held_out), args.resamples, args.seed)


def _save(args: EvaluateImages, sets: Sets, found: Sequence[Comparison]) -> None:
    """Write guided-diffusion's files, where they are asked for."""
    first = found[0]
    if args.save_statistics is not None and first.data is not None:
        whole = next((one for one in found if one.features.kind != SPATIAL), first)
        spatial = next((_gaussian(one) for one in found if one.features.kind == SPATIAL), None)
        write_statistics(args.save_statistics, _gaussian(whole), args.overwrite, spatial)
    if args.save_batch is not None:
        places = first.generated.places
        one = sets.generated[places[0]]
        pixels = (sets.generated[place].pixels() for place in places)
        write_batch(args.save_batch, pixels, len(places), (one.height, one.width), args.overwrite)


def _gaussian(one: Comparison) -> Gaussian:
    """Of the features of the data."""
    assert one.data is not None
    return Moments.of([one.data.features], one.features.width).gaussian()


def _write(
    results: Results, args: EvaluateImages, sets: Sets, found: Sequence[Comparison], seconds: float
) -> None:
    named = {"generated": found[0].generated, "data": found[0].data, "held_out": found[0].held_out}
    record = {
        "version": __version__,
        "seed": args.seed,
        "resamples": args.resamples,
        "seconds": round(seconds, 1),
        **{name: None if one is None else _described(one) for name, one in named.items()},
        "features": [one.record() for one in found],
    }
    if sets.data is None:
        record["data"] = {"name": args.data, "statistics": True}
    write_text(results.path(FIGURES), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    name = args.model or args.generated
    page = html.page(f"{name} against {args.data}", parts(sets, found, args.shown))
    write_text(results.path(PAGE), page)


def _described(one: Extracted) -> dict[str, Any]:
    return {
        "name": one.name,
        "pictures": len(one),
        "broken": dict(sorted(one.broken.items())),
        "sizes": {f"{width}x{height}": count for (width, height), count in sorted(one.sizes.items())},
    }
