"""Enlarge a user's pictures, with a progress bar, and write them with their recipes.

Shape letters: H W pixels, h w pixels of a picture to enlarge.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.file_locks import count, ready_folder, report_when_stopped, write_beside
from glide.utils.hub import at_revision
from glide.utils.image_files import SUFFIXES, check_not_original, check_output, read_picture
from glide.utils.images import save_png, to_uint8
from glide.utils.printable import few, say
from glide.utils.progress import progress
from toolkit.commands.prompt_files import read_rows
from toolkit.commands.upsample_flags import Upsample
from toolkit.pipelines.upscale import Upscaler


def upsample(args: Upsample) -> list[Path]:
    """Enlarge the pictures; returns the paths of the results, and prints where they are.

    InputError for what cannot be read, enlarged or written; results that were written before it stay.
    """
    args.check()
    plan = list(_plan(args))
    stage = Upscaler.load(at_revision(args.model, args.revision), args.device, args.dtype, args.vocab)
    stage = replace(stage, settings=args.settings(stage.settings), noise=args.noise)
    label = None if args.label is None else class_number(stage.pipe.model.config, args.label)
    stage.check([ImageRequest(args.seed, args.prompt or "", label)])
    pictures = [
        ImageRequest(args.seed + i, _caption(args, stage, source), label)
        for i, (source, _) in enumerate(plan)
    ]
    runs = (_begin(stage, source, picture) for (source, _), picture in zip(plan, pictures, strict=True))
    head = next(runs)  # what is wrong with the first picture is said before there is a folder or a bar
    ready_folder(plan[0][1].parent)
    written: list[Path] = []
    bar = progress(total=len(plan) * stage.steps, desc=f"enlarging {count(plan)}", unit="step")
    with report_when_stopped(written), bar:
        for (image, xs), picture, (source, result) in zip(chain([head], runs), pictures, plan, strict=True):
            for x in xs:
                bar.update()
                last = x
            pixels = _with_transparency(to_uint8(last)[0], image)
            recipe = {**stage.recipe(picture), "scale": stage.scale, "enlarged": _origin(image, source)}
            profile = image.info.get("icc_profile")
            check_not_original(result, [source])  # looked at again: a run takes its time
            written.append(
                write_beside(
                    result,
                    partial(save_png, image=pixels, recipe=recipe, profile=profile, replace=args.overwrite),
                )
            )
    say(f"{count(written)} in {written[0].parent.resolve()}: {few([path.name for path in written])}")
    return written


def _begin(stage: Upscaler, source: Path, picture: ImageRequest) -> tuple[Image.Image, Iterator[Tensor]]:
    """The picture in a file, and x after each step of its enlargement. InputError, at once, for what cannot be done."""
    image = read_picture(source)
    return image, stage.enlarge(_colours(image), picture)


def _plan(args: Upsample) -> Iterator[tuple[Path, Path]]:
    """Each picture and where its enlargement goes. InputError where one cannot be written, before any is drawn."""
    source, out = Path(args.picture), Path(args.out)
    sources = [source]
    if source.is_dir():
        sources = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
        if not sources:
            raise InputError(f"{source} holds no pictures ({' '.join(SUFFIXES)}): give another folder")
        if out.suffix.lower() == ".png":
            raise InputError(f"got the output {out} for a folder of pictures, expected a folder")
    owners: dict[Path, Path] = {}
    for path in sources:
        result = out if out.suffix.lower() == ".png" else out / f"{path.stem}.png"
        if result in owners:
            raise InputError(f"{owners[result]} and {path} would both be written to {result}: rename one")
        owners[result] = path
        check_output(result, args.overwrite, sources)
        yield path, result


def _caption(args: Upsample, stage: Upscaler, source: Path) -> str:
    beside = source.with_suffix(".txt")
    if args.prompt is None and Path(args.picture).is_dir() and beside.is_file():
        caption = " ".join(row.caption for row in read_rows(str(beside)))
    else:
        caption = (args.prompt or "").strip()
    if (
        args.prompt
        and not stage.pipe.model.config.reads_captions
        and not stage.request(ImageRequest(0, caption)).caption
    ):
        raise InputError(
            f"got a caption for {args.model}, a model without text, expected none: leave --prompt out"
        )
    return caption


def _colours(image: Image.Image) -> Tensor:
    """uint8 [h,w,3]. Colours under transparency count as they are: they show where an edge is half transparent."""
    return torch.from_numpy(np.array(image.convert("RGB")))


def _with_transparency(pixels: Tensor, image: Image.Image) -> Tensor:
    """The enlargement, uint8 [H,W,3], with the picture's transparency, enlarged too: [H,W,4] where it has any."""
    if image.mode != "RGBA":
        return pixels
    height, width, _ = pixels.shape
    alpha = image.getchannel("A").resize((width, height), Image.Resampling.BICUBIC)
    return torch.cat([pixels, torch.from_numpy(np.array(alpha))[..., None]], dim=2)


def _origin(image: Image.Image, source: Path) -> dict[str, str | Sequence[int]]:
    """The source of an enlargement: its name, size, and a fingerprint of its pixels."""
    digest = hashlib.sha256(image.tobytes()).hexdigest()[:16]
    return {"picture": source.name, "size": [image.width, image.height], "pixels": digest}
