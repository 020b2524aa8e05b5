"""Fetch published models, draw fixed captions and classes with each, and write hashes, thumbnails and sheets.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from glide.checkpoints import cache
from glide.checkpoints.model_folder import read_config
from glide.checkpoints.provenance import environment
from glide.checkpoints.published import MODELS, PublishedModel
from glide.networks.image_request import ImageRequest
from glide.utils.contact_sheet import contact_sheet
from glide.utils.errors import InputError
from glide.utils.images import save_png, to_uint8
from glide.utils.json_files import as_table, read_table
from glide.utils.printable import say
from glide.utils.results_folder import Results
from guidance.options import Options
from toolkit.commands.cache import folder_of, known
from toolkit.commands.report import write_json
from toolkit.commands.verify_published_flags import ALL, VerifyPublished
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import spec_of_steps
from toolkit.pipelines.upscale import Upscaler

REPORT = "verified.json"
CAPTIONS = (
    "an oil painting of a corgi",
    "a boat in a canal of Venice",
    "a red apple on a wooden table",
    "a hedgehog using a calculator",
)
CLASSES = (1, 207, 291, 980)  # of ImageNet: goldfish, golden retriever, lion, volcano
CLASSIFIER_SCALES = {"adm-64": 1.0, "adm-128": 0.5, "adm-256": 1.0, "adm-512": 4.0}
"""As in guided-diffusion's README."""
CLIP_SCALE = 3.0
SIDE = 4  # of a thumbnail, in numbers
NEAR = 4  # levels of 255 by which a thumbnail of another machine may differ


@dataclass(frozen=True)
class Drawn:
    """The pictures of one model."""

    pixels: Tensor
    """uint8 [N,H,W,3]."""
    requests: list[str]
    fingerprint: str
    """Of the model's weights."""
    settings: dict[str, Any]
    device: torch.device


def verify_published(args: VerifyPublished) -> None:
    """Check each model, write the report. InputError for one that cannot be had, or is not that of `--against`."""
    names = tuple(MODELS) if args.names == (ALL,) else args.names
    models = known(names)
    before = None if args.against is None else _models_of(args)
    results = Results(args.out, (REPORT, *(f"{model.name}.png" for model in models)), args.overwrite)
    report: dict[str, Any] = {}
    differences: list[str] = []
    there = {name for name in MODELS if cache.is_converted(cache.model_in_cache(name))}
    with results:
        for i, model in enumerate(models):
            record = read_config(folder_of(model))["training"]
            drawn = _draw(model, args)
            save_png(results.path(f"{model.name}.png"), contact_sheet(drawn.pixels, drawn.requests))
            report[model.name] = _facts(record, drawn)
            figures = {"environment": environment(drawn.device), "models": report}
            write_json(results.path(REPORT), figures, overwrite=True)
            say(
                f"{model.name}: weights {drawn.fingerprint}, sheet {results.path(f'{model.name}.png')}",
                result=True,
            )
            if before is not None and model.name in before:
                differences += _compare(model.name, report[model.name], before[model.name])
            if args.remove:
                _remove({model.name, _base_of(model).name} - there, models[i + 1 :])
    say(f"{len(models)} model{'s' * (len(models) > 1)} checked: {results.path(REPORT)}", result=True)
    if differences:
        raise InputError(
            f"{args.out} is not as {args.against} ({'; '.join(differences)}): compare the two files"
        )


def _models_of(args: VerifyPublished) -> Mapping[str, Any]:
    assert args.against is not None
    return as_table(read_table(args.against).get("models"), f"the models in {args.against}")


def _remove(names: Set[str], later: Sequence[PublishedModel]) -> None:
    """Remove models from the cache that no later one needs."""
    for name in names - {name for model in later for name in (model.name, _base_of(model).name)}:
        cache.remove(name)


def _base_of(model: PublishedModel) -> PublishedModel:
    """The model that draws: the one that a classifier or CLIP guides, or whose pictures an upsampler enlarges."""
    if model.kind == "classifier":
        return MODELS[model.name.replace("classifier", "adm")]
    if model.kind == "clip":
        return MODELS["glide"]
    return next((one for one in MODELS.values() if one.upsampler == model.name), model)


def _draw(model: PublishedModel, args: VerifyPublished) -> Drawn:
    base = _base_of(model)
    if model.kind == "classifier":
        scale = CLASSIFIER_SCALES[base.name]
        return _drawn_by(base, args, f"classifier:{scale:g}", Options(classifier=model.name))
    if model.kind == "clip":
        return _drawn_by(base, args, f"clip:{CLIP_SCALE:g}", Options(clip=model.name))
    return _drawn_by(model, args) if base is model else _enlarged(model, base, args)


def _drawn_by(
    model: PublishedModel, args: VerifyPublished, guidance: str | None = None, options: Options | None = None
) -> Drawn:
    """Pictures of a diffusion model, guided where a guidance is given."""
    folder_of(model)
    pipe = Pipeline.from_pretrained(model.name, args.device, args.dtype)
    config = pipe.model.config
    kind: dict[str, Any] = {"prompt": None, "label": None, "num_images_per_prompt": args.pictures}
    requests = [f"seed {seed}" for seed in range(args.pictures)]
    if config.reads_captions:
        requests = list(CAPTIONS[: args.pictures])
        kind = {"prompt": requests}
    elif config.num_classes:
        labels = [label % config.num_classes for label in CLASSES[: args.pictures]]
        requests, kind = [f"class {label}" for label in labels], {"label": labels}
    steered: dict[str, Any] = {} if guidance is None else {"guidances": [guidance], "options": options}
    result = pipe(**kind, **steered, seed=0, num_inference_steps=args.steps)
    weights = pipe.fingerprint
    if guidance is not None and options is not None:
        option = guidance.partition(":")[0]
        weights = pipe.guide_networks.fingerprints(options, frozenset({option}))[option]
    settings = {"dtype": args.dtype, "steps": args.steps, "guidance": guidance or "default"}
    return Drawn(to_uint8(result.tensors), requests, weights, settings, pipe.device)


def _enlarged(model: PublishedModel, base: PublishedModel, args: VerifyPublished) -> Drawn:
    """Pictures of the base model, enlarged."""
    small = _drawn_by(base, args)
    folder_of(model)
    upscaler = Upscaler.load(model.name, args.device, args.dtype)
    upscaler = replace(upscaler, settings=replace(upscaler.settings, respacing=spec_of_steps(args.steps)))
    large = []
    for seed, (pixels, text) in enumerate(zip(small.pixels, small.requests, strict=True)):
        word, _, number = text.rpartition(" ")
        label = int(number) if word == "class" else None
        large.append(upscaler.enlarged(pixels, ImageRequest(seed, "" if label is not None else text, label)))
    return Drawn(torch.stack(large), small.requests, upscaler.pipe.fingerprint, small.settings, small.device)


def _facts(record: Mapping[str, Any], drawn: Drawn) -> dict[str, Any]:
    """The entry of a model in the report, JSON-able."""
    return {
        "files": record["files"],
        "weights": drawn.fingerprint,
        "settings": drawn.settings,
        "pictures": [
            {"request": text, "sha256": _sha256(pixels), "thumbnail": _small(pixels)}
            for text, pixels in zip(drawn.requests, drawn.pixels, strict=True)
        ],
    }


def _sha256(pixels: Tensor) -> str:
    return hashlib.sha256(pixels.numpy().tobytes()).hexdigest()


def _small(pixels: Tensor) -> str:
    """Means of 4x4 parts of uint8 [H,W,3], row by row, red, green, blue, as two hexadecimal digits each.

    Rounding hardly changes them, so they can be compared between machines.
    """
    means = adaptive_avg_pool2d(pixels.permute(2, 0, 1).double(), SIDE)
    return bytes(round(value) for value in means.permute(1, 2, 0).flatten().tolist()).hex()


def _compare(name: str, here: Mapping[str, Any], there: Mapping[str, Any]) -> Sequence[str]:
    """The differences from an earlier report that rounding does not explain; says how near the pictures are."""
    found = []
    try:
        hashes = [[file["sha256"] for file in one["files"]] for one in (here, there)]
        if hashes[0] != hashes[1]:
            found.append(f"{name} has other files")
        if here["weights"] != there["weights"]:
            found.append(f"{name} has other weights")
        if here["settings"] != there["settings"]:
            return [*found, f"{name} was drawn with other settings"]
        pairs = list(zip(here["pictures"], there["pictures"], strict=True))
        same = sum(a["sha256"] == b["sha256"] for a, b in pairs)
        thumbnails = [[bytes.fromhex(picture["thumbnail"]) for picture in pair] for pair in pairs]
        far = max(abs(x - y) for a, b in thumbnails for x, y in zip(a, b, strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"got a report without the facts of {name}, expected one of this command: check it"
        ) from error
    equal = f"{same} of {len(pairs)} pictures are the same bit for bit"
    say(f"{name}: {equal}, thumbnails differ by {far} of 255", result=True)
    return [*found, f"thumbnails of {name} differ by {far}"] if far > NEAR else found
