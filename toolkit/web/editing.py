"""Edit jobs: the masked part of a picture is painted, all else stays bit for bit; a picture grows at its sides.

Shape letters: N results, H W pixels, C channels.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from glide.networks.image_request import ImageRequest
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.images import on_white, png_bytes
from toolkit.pipelines.inpaint import Plan, check_mask, inpaint, plan
from toolkit.pipelines.inpaint_original import Original
from toolkit.pipelines.inpaint_region import Bytes, Unknown, pasted
from toolkit.pipelines.mask_files import mask_of_picture, mask_of_transparency
from toolkit.pipelines.output import Step
from toolkit.pipelines.pipeline import Pipeline
from toolkit.web.draw_request import TRANSPARENCY, DrawRequest
from toolkit.web.drawing import Cancelled, Drawing, sized
from toolkit.web.jobs import Job
from toolkit.web.uploads import MOST_PIXELS, Decoded, decoded


class StoppedEarly(Exception):
    """Ends a loop whose job is to stop, with its last step."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


def edit_picture(job: Job, with_: Drawing) -> None:
    """Paint a job's picture, as scripts/inpaint.py does. InputError for what cannot be painted."""
    request = job.request
    assert request.image is not None
    source = decoded(with_.store.get(request.image))
    original, unknown, mask = _with_mask(request, source, with_)
    check_mask(unknown)
    pipe = with_.models.pipe(request.model)
    how = plan(pipe, unknown, request.settings(pipe.conditioner.has_null), request.method, request.context)
    label = None if request.label is None else class_number(pipe.classes(how.settings), request.label)
    pictures = [ImageRequest(request.seed + i, request.caption, label) for i in range(request.count)]
    run = sized(pipe, request.call_size, len(pictures))
    job.region = (how.region.left, how.region.top, how.region.side)
    job.begin(pipe.steps(how.settings))
    painted, step = _painted(job, with_, run, original, unknown, pictures, how)
    found = []
    for i, (rgb, picture) in enumerate(zip(painted, pictures, strict=True)):
        result = original.with_painted(rgb, unknown)
        recipe = _entries(request, source, mask, how) | run.recipe(picture, how.settings, request.place + i)
        if step is not None:
            recipe["made_by"] = f"the page, stopped after step {step.index + 1} of {job.steps}"
        size = (result.shape[1], result.shape[0])
        file = png_bytes(_picture(result), recipe, original.picture.info.get("icc_profile"))
        found.append(with_.keep_file(file, recipe, size))
    job.end("done" if step is None else "stopped", pictures=tuple(found))


def _painted(
    job: Job,
    with_: Drawing,
    run: Pipeline,
    original: Original,
    unknown: Unknown,
    pictures: list[ImageRequest],
    how: Plan,
) -> tuple[list[Bytes], Step | None]:
    """N results uint8 [H,W,3], and the step at which the job was stopped, if it was."""
    budget = with_.budget(job.request.model, run)
    began = time.perf_counter()

    def on_step(step: Step) -> None:
        job.advance()
        if job.wants_preview and budget.allows():
            with_.preview(job, budget, step.x0_latents)
        if job.asked == "cancel":
            raise Cancelled
        if job.asked == "stop" and job.step < job.steps:
            raise StoppedEarly(step)

    shown = original.shown
    try:
        return inpaint(run, shown, unknown, pictures, how, None, on_step, job.request.place), None
    except StoppedEarly as stop:
        x0: Tensor = stop.step.x0
        return [pasted(shown, unknown, how.region, one, how.feather) for one in x0.cpu()], stop.step
    finally:
        with_.learn(job.request.model, budget)
        with_.counts.sampling_seconds += time.perf_counter() - began
        with_.counts.calls += 1
        with_.counts.rows += len(pictures)


def _with_mask(
    request: DrawRequest, source: Decoded, with_: Drawing
) -> tuple[Original, Unknown, Decoded | None]:
    """The picture, larger where it is to grow, its mask [H,W], and the mask's picture."""
    size = (source.width, source.height)
    own = request.mask == TRANSPARENCY
    mask = None if own or request.mask is None else decoded(with_.store.get(request.mask))
    if mask is not None:
        unknown = mask_of_picture(mask.picture, mask.name, size)
    elif own:
        unknown = mask_of_transparency(source.picture, source.name)
    else:
        unknown = np.zeros(size[::-1], bool)
    original = source.original
    if any(request.extend):
        original, unknown = _grown(original, unknown, request.extend)
    return original, unknown, mask


def _grown(original: Original, unknown: Unknown, by: tuple[int, ...]) -> tuple[Original, Unknown]:
    """The picture on a larger, unknown ground. InputError for one of too many pixels."""
    left, top, right, bottom = by
    height, width = unknown.shape
    wide, high = width + left + right, height + top + bottom
    if wide * high > MOST_PIXELS:
        raise InputError(
            f"got a picture that grows to {wide}x{high} pixels, expected at most {MOST_PIXELS // 10**6} million: "
            "draw its frame smaller"
        )
    ground = Image.new("RGB", (wide, high), "white")
    ground.paste(on_white(original.picture), (left, top))
    larger = np.ones((high, wide), bool)
    larger[top : top + height, left : left + width] = unknown
    return replace(original, picture=ground, grey=False), larger


def _entries(request: DrawRequest, source: Decoded, mask: Decoded | None, how: Plan) -> dict[str, Any]:
    """The entries of a result's recipe with which scripts/inpaint.py repeats it, given picture and mask.

    What begins with the picture, or lets it grow, that script does not do.
    """
    repeatable = request.strength == 1.0 and not any(request.extend)
    found: dict[str, Any] = {"made_by": "inpaint.py" if repeatable else "the page"}
    found |= {"image": source.name, "image_sha256": source.sha256}
    found |= {"mask": "transparency"} if mask is None else {"mask": mask.name, "mask_sha256": mask.sha256}
    if any(request.extend):
        found["extend"] = list(request.extend)
    return found | {"invert_mask": False, "context": request.context, **how.recipe()}


def _picture(pixels: Bytes) -> Image.Image:
    """uint8 [H,W,C] -> a picture, as scripts/inpaint.py writes it."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
