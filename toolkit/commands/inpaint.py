"""Inpaint a picture: read it and its mask, paint what is masked, write the results.

Shape letters: N results, H W pixels, C channels of the picture's file: grey, grey and alpha, RGB, or RGBA.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.utils.class_names import class_number
from glide.utils.errors import InputError, warn
from glide.utils.file_locks import count, report_when_stopped, write_beside
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE, check_output
from glide.utils.images import grid, save_png
from glide.utils.memory import check_memory
from glide.utils.printable import few, say
from glide.utils.progress import progress
from toolkit.commands.inpaint_flags import Inpaint
from toolkit.commands.second_stage import load_upscaler
from toolkit.pipelines.inpaint import JUMP, RESAMPLINGS, Plan, check_mask, inpaint, plan
from toolkit.pipelines.inpaint_original import Original, read_original
from toolkit.pipelines.inpaint_region import Bytes, Unknown
from toolkit.pipelines.mask_files import mask_of_box, mask_of_file, mask_of_transparency
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe import restore
from toolkit.pipelines.upscale import InpaintUpscaler

OVERVIEW = 1024  # pixels of a result's longer side, at most, where all are shown side by side


def inpaint_file(args: Inpaint, recipe: Mapping[str, Any] | None = None) -> list[Path]:
    """Paint and write; returns the paths of the N results. Prints where they are.

    recipe: of --like's picture. InputError, before anything is drawn, for whatever
    cannot be.
    """
    args.settings(has_null=True)  # numbers out of range, before anything is read
    originals = [args.image] + ([args.mask] if args.mask else [])
    for path in args.files:
        check_output(path, args.overwrite, originals)
    original = read_original(args.image)
    unknown = _mask(args, original)
    check_mask(unknown)
    pipe = Pipeline.from_pretrained(
        args.model, args.device, args.dtype, args.call_size, args.vocab, revision=args.revision
    )
    place = restore(recipe, args, pipe.context) if recipe is not None else 0
    enlarge = _inpaint_upscaler(args, pipe)
    if enlarge is not None and recipe is not None and "upsampler" in recipe:
        enlarge.upscaler.check_weights(enlarge.upscaler.pipe.name, recipe["upsampler"], str(args.like))
    settings = args.settings(pipe.conditioner.has_null)
    how = plan(pipe, unknown, settings, args.method, args.context, args.feather, enlarge)
    if how.method == "repaint" and (args.jump, args.resamplings) != (None, None):
        jump, times = args.jump or JUMP, args.resamplings or RESAMPLINGS
        how = replace(how, settings=replace(how.settings, jump=jump, resamplings=times))
    elif (args.jump, args.resamplings) != (None, None):
        raise InputError(
            f"got --jump or --resamplings for the method {how.method}, which this model has of its own, expected "
            "--method repaint: add it, or leave them out"
        )
    label = None if args.label is None else class_number(pipe.classes(settings), args.label)
    each = 3 * original.picture.width * original.picture.height + 3 * 4 * pipe.model.config.picture_size**2
    check_memory(
        args.num_samples * each,
        f"--num-samples {args.num_samples}",
        "ask for fewer results",
    )
    pictures = [ImageRequest(args.seed + i, args.prompt, label) for i in range(args.num_samples)]
    steps = pipe.steps(how.settings)
    run = pipe.for_run(len(pictures))
    with progress(total=steps, desc=f"painting {count(pictures)}", unit="step") as bar:
        painted = inpaint(
            run, original.shown, unknown, pictures, how, enlarge, lambda step: bar.update(), place
        )
    results = [original.with_painted(rgb, unknown) for rgb in painted]
    recipes = [
        _recipe(args, original, run, how, enlarge, picture, place + i) for i, picture in enumerate(pictures)
    ]
    if recipe is not None:
        _say_what_changed(args, recipe, recipes[0])
    return _write(args, results, recipes, original.picture.info.get("icc_profile"))


def _inpaint_upscaler(args: Inpaint, pipe: Pipeline) -> InpaintUpscaler | None:
    """The upsampler of --upsampler, on the device and in the type of the first stage."""
    if args.upsampler is None:
        return None
    upscaler = load_upscaler(
        args.upsampler, pipe.device, args.dtype, args.upsampler_vocab, args.upsample_respacing
    )
    return InpaintUpscaler(upscaler, pipe.model.config.picture_size)


def _mask(args: Inpaint, original: Original) -> Unknown:
    size = original.picture.size
    if args.mask is not None:
        mask = mask_of_file(args.mask, size)
    elif args.box is not None:
        mask = mask_of_box(args.box, size)
    else:
        mask = mask_of_transparency(original.picture, args.image)
    return ~mask if args.invert_mask else mask


def _recipe(
    args: Inpaint,
    original: Original,
    pipe: Pipeline,
    how: Plan,
    enlarge: InpaintUpscaler | None,
    picture: ImageRequest,
    place: int,
) -> dict[str, Any]:
    found: dict[str, Any] = {"made_by": "inpaint.py", "image": args.image, "image_sha256": original.sha256}
    if args.mask is not None:
        found |= {
            "mask": args.mask,
            "mask_sha256": hashlib.sha256(read_bytes(args.mask, LARGEST_FILE)).hexdigest(),
        }
    else:
        found |= {"box": args.box} if args.box is not None else {"mask": "transparency"}
    context = args.context if math.isfinite(args.context) else "inf"  # JSON has no infinity
    found |= {"invert_mask": args.invert_mask, "context": context, **how.recipe()}
    found |= {"upsampler": enlarge.recipe()} if enlarge is not None else {}
    return found | pipe.recipe(picture, how.settings, place)


def _say_what_changed(args: Inpaint, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """A warning where a file of the same name holds something else than when --like's picture was painted."""
    for name in ("image", "mask"):
        sums = f"{name}_sha256"
        if old.get(name) == new.get(name) and old.get(sums) != new.get(sums):
            warn(
                f"{new[name]} is not the {name} that {args.like} was painted with: the result is another one",
                stacklevel=2,
            )


def _write(
    args: Inpaint, results: list[Bytes], recipes: list[dict[str, Any]], profile: bytes | None
) -> list[Path]:
    files, written = args.files, []

    def write(file: Path, image: Bytes | Tensor, recipe: dict[str, Any]) -> None:
        save = partial(
            save_png,
            image=_picture(np.asarray(image)),
            recipe=recipe,
            profile=profile,
            replace=args.overwrite,
        )
        written.append(write_beside(file, save))

    with report_when_stopped(written):
        alone = files[-len(results) :]
        for file, result, recipe in zip(alone, results, recipes, strict=True):
            write(file, result, recipe)
        if len(results) > 1:
            sheet = grid(torch.from_numpy(np.stack([_overview(result) for result in results])))
            write(files[0], sheet, recipes[0] | {"num_samples": len(results)})
    if len(results) > 1:
        say(f"side by side: {written[-1].resolve()}")
    say(f"{count(results)}: {few([str(file.resolve()) for file in written[: len(results)]])}")
    return written[: len(results)]


def _overview(result: Bytes) -> Bytes:
    """uint8 [H,W,C], scaled down where it is larger than a screen has room for among others."""
    share = OVERVIEW / max(result.shape[:2])
    if share >= 1:
        return result
    size = (max(1, round(result.shape[1] * share)), max(1, round(result.shape[0] * share)))
    picture = _picture(result)
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS)).reshape(*size[::-1], -1)


def _picture(pixels: Bytes) -> Image.Image:
    """uint8 [H,W,C] -> a picture; that of a grey file with transparency has 2 channels."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
