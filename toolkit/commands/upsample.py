"""Enlarge a user's pictures, with a progress bar, and write them with their recipes.

Shape letters: H W pixels, h w pixels of a picture to enlarge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.provenance import environment
from glide.networks.image_request import ImageRequest
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.file_locks import FolderLock, count, ready_folder, report_when_stopped, write_beside
from glide.utils.hub import at_revision
from glide.utils.image_files import SUFFIXES, check_not_original, check_output, read_picture
from glide.utils.images import read_recipe, save_png, to_uint8
from glide.utils.parts import Part
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
    plan = _plan(args)
    stage = Upscaler.load(at_revision(args.model, args.revision), args.device, args.dtype, args.vocab)
    stage = replace(stage, settings=args.settings(stage.settings), noise=args.noise)
    label = None if args.label is None else class_number(stage.pipe.model.config, args.label)
    stage.check([ImageRequest(args.seed, args.prompt or "", label)])
    tasks = [
        Task(source, result, ImageRequest(args.seed + place, _caption(args, stage, source), label))
        for place, source, result in plan
    ]
    if args.part is None:
        return _enlarge(args, stage, tasks)
    part, folder = Part.parse(args.part), Path(args.out)
    ready_folder(folder)
    with FolderLock(
        folder / f"{part.name}.lock", f"part {part} in {folder} is drawn by {{holder}}: wait for it"
    ):
        missing = [task for task in tasks if not _is_there(stage, task)]
        say(f"part {part}: {len(missing)} of {len(tasks)} pictures to enlarge, the others are there")
        return _enlarge(args, stage, missing) if missing else []


@dataclass(frozen=True)
class Task:
    """A picture to enlarge, and where its enlargement goes."""

    source: Path
    result: Path
    request: ImageRequest


def _enlarge(args: Upsample, stage: Upscaler, tasks: Sequence[Task]) -> list[Path]:
    runs = (_begin(stage, task) for task in tasks)
    head = next(runs)  # what is wrong with the first picture is said before there is a folder or a bar
    ready_folder(tasks[0].result.parent)
    written: list[Path] = []
    bar = progress(total=len(tasks) * stage.steps, desc=f"enlarging {count(tasks)}", unit="step")
    with report_when_stopped(written), bar:
        for (image, xs), task in zip(chain([head], runs), tasks, strict=True):
            for x in xs:
                bar.update()
                last = x
            pixels = _with_transparency(to_uint8(last)[0], image)
            recipe, profile = _recipe(stage, task, image), image.info.get("icc_profile")
            check_not_original(task.result, [task.source])  # looked at again: a run takes its time
            written.append(
                write_beside(
                    task.result,
                    partial(save_png, image=pixels, recipe=recipe, profile=profile, replace=args.overwrite),
                )
            )
    say(f"{count(written)} in {written[0].parent.resolve()}: {few([path.name for path in written])}")
    return written


def _recipe(stage: Upscaler, task: Task, image: Image.Image) -> dict[str, Any]:
    return {**stage.recipe(task.request), "scale": stage.scale, "enlarged": _origin(image, task.source)}


def _is_there(stage: Upscaler, task: Task) -> bool:
    """True where the result is there, enlarged from the same picture in the same way.

    InputError where another picture has its name.
    """
    if not task.result.exists():
        return False
    wanted = json.loads(json.dumps(_recipe(stage, task, read_picture(task.source))))
    try:
        found = read_recipe(task.result)
    except InputError:
        found = None
    here = environment(stage.pipe.device)  # another machine draws the same picture
    if found is None or any(found.get(name) != wanted[name] for name in wanted if name not in here):
        raise InputError(
            f"got {task.result}, which is no result of this command, expected none or one of it: give another folder"
        )
    return True


def _begin(stage: Upscaler, task: Task) -> tuple[Image.Image, Iterator[Tensor]]:
    """The picture in a file, and x after each step of its enlargement. InputError, at once, for what cannot be done."""
    image = read_picture(task.source)
    return image, stage.enlarge(_colours(image), task.request)


def _plan(args: Upsample) -> list[tuple[int, Path, Path]]:
    """The pictures of a part, or all: their place in the folder, their path and that of the result.

    InputError where a result cannot be written, before any is drawn.
    """
    source, out = Path(args.picture), Path(args.out)
    sources = [source]
    if source.is_dir():
        sources = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
        if not sources:
            raise InputError(f"{source} holds no pictures ({' '.join(SUFFIXES)}): give another folder")
        if out.suffix.lower() == ".png":
            raise InputError(f"got the output {out} for a folder of pictures, expected a folder")
    elif args.part is not None:
        raise InputError(f"got --part for the picture {source}, expected a folder: leave it out")
    rows = range(len(sources)) if args.part is None else Part.parse(args.part).of_rows(len(sources))
    plan: list[tuple[int, Path, Path]] = []
    owners: dict[Path, Path] = {}
    for place, path in enumerate(sources):
        result = out if out.suffix.lower() == ".png" else out / f"{path.stem}.png"
        if result in owners:
            raise InputError(f"{owners[result]} and {path} would both be written to {result}: rename one")
        owners[result] = path
        check_output(result, args.overwrite or args.part is not None, sources)
        plan.append((place, path, result))
    if not rows:
        raise InputError(
            f"got the part {args.part} of {len(sources)} pictures, in which there is none: give fewer parts"
        )
    return [plan[row] for row in rows]


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
