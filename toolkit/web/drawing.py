"""Draw jobs: new pictures, edited ones, enlarged ones. One thread calls `draw`.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from glide.networks.fixed_batch import batches
from glide.networks.image_request import NO_PIXELS, ImageRequest, KnownPixels
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.images import as_image, png_bytes, to_uint8
from toolkit.pipelines.image_to_image import init_image_of
from toolkit.pipelines.pipeline import Pipeline, Step
from toolkit.pipelines.recipe import with_stage
from toolkit.pipelines.settings import SamplingConfig
from toolkit.web.draw_request import DrawRequest
from toolkit.web.jobs import Job
from toolkit.web.latent_previews import LatentPreview
from toolkit.web.picture_conditions import conditions_of
from toolkit.web.picture_store import PictureStore, Stored
from toolkit.web.previews import PreviewBudget, columns_of, sheet
from toolkit.web.served_models import ServedModels
from toolkit.web.uploads import decoded

AT_ONCE = 16  # pictures in one sampling loop, as in scripts/sample.py; it changes no picture


class Cancelled(Exception):
    """A job that is to be dropped."""


@dataclass(eq=False)
class Counts:
    """Numbers of what was drawn, for /metrics."""

    pictures: int = 0
    sampling_seconds: float = 0.0
    preview_seconds: float = 0.0
    calls: int = 0
    """Sampling loops."""
    rows: int = 0
    """Pictures that were drawn in these."""


@dataclass(eq=False)
class Drawing:
    """All that jobs are drawn with."""

    models: ServedModels
    store: PictureStore
    counts: Counts = field(default_factory=Counts)
    costs: dict[str, float] = field(default_factory=dict)
    """Seconds of a preview, by model, as measured."""
    latents: dict[str, LatentPreview] = field(default_factory=dict)
    """Previews of models of latents."""

    def follow(self, jobs: Sequence[Job], steps: Iterable[Step], pipe: Pipeline) -> tuple[Step, bool]:
        """Take the steps of a loop whose rows are those of the jobs, with previews; the last step, and True if all.

        Cancelled once all of them are. The loop ends early where its only job is to stop.
        """
        budget = self.budget(jobs[0].request.model, pipe)
        began = time.perf_counter()
        step, whole = None, True
        for step in steps:
            for job in jobs:
                job.advance()
            if len(jobs) == 1 and jobs[0].wants_preview and budget.allows():
                self.preview(jobs[0], budget, step.x0_latents)
            if all(job.asked == "cancel" for job in jobs):
                raise Cancelled
            if len(jobs) == 1 and jobs[0].asked == "stop":
                whole = False
                break
        assert step is not None
        self.learn(jobs[0].request.model, budget)
        if (latents := self.latents.get(jobs[0].request.model)) is not None:  # by what is decoded in any case
            latents.learn(*((step.latents, step.x) if whole else (step.x0_latents, step.x0)))
        self.counts.sampling_seconds += time.perf_counter() - began
        self.counts.calls += 1
        return step, whole

    def budget(self, label: str, pipe: Pipeline) -> PreviewBudget:
        """A budget of previews, with the cost that they had before."""
        if pipe.model.config.first_stage is not None:
            preview = self.latents.setdefault(label, LatentPreview())
            return PreviewBudget(self.costs.get(label, 0.0) if preview.known else None)
        return PreviewBudget(self.costs.get(label, 0.0))

    def learn(self, label: str, budget: PreviewBudget) -> None:
        """Note the cost of the previews that were made."""
        if budget.spent and budget.cost is not None:
            self.costs[label] = budget.cost

    def preview(self, job: Job, budget: PreviewBudget, x: Tensor, decoded: bool = False) -> None:
        """A preview for a job of its model's x [N,c,h,w], which may be latents, or of decoded pictures."""
        before, columns = budget.spent, columns_of(len(x))
        latents = None if decoded else self.latents.get(job.request.model)
        data = budget.make(lambda: sheet(x if latents is None else latents(x)))
        job.show(data, columns, -(-len(x) // columns))
        self.counts.preview_seconds += budget.spent - before
        job.changed()

    def keep(self, pixels: Tensor, recipe: dict[str, Any]) -> dict[str, Any]:
        """Store a result, uint8 [H,W,C], with its recipe; what the page needs of it."""
        height, width, _ = pixels.shape
        return self.keep_file(png_bytes(pixels, recipe), recipe, (width, height))

    def keep_file(self, data: bytes, recipe: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
        """The same of a PNG's bytes."""
        seed = str(recipe.get("seed", 0))
        words = "-".join(str(recipe.get("prompt") or recipe.get("class") or "picture").split()[:8])
        name = "".join(letter for letter in words if letter.isalnum() or letter == "-")[:60] or "picture"
        identity = self.store.put(Stored(data, "image/png", f"{name}-{seed}.png"))
        self.counts.pictures += 1
        return {
            "id": identity,
            "seed": seed,
            "width": size[0],
            "height": size[1],
            "name": f"{name}-{seed}.png",
        }


def draw_pictures(job: Job, with_: Drawing) -> None:
    """Draw a job of new pictures, as scripts/sample.py does. InputError for what cannot be drawn."""
    request = job.request
    pipe = with_.models.pipe(request.model)
    settings = request.settings(pipe.conditioner.has_null)
    pictures, entries = requests_of(request, pipe, settings, with_.store)
    run = sized(pipe, request.call_size, len(pictures))
    upscaler = None
    if request.size not in (None, pipe.model.config.picture_size):
        upscaler = with_.models.upscaler(request.model)
        fits = pipe.model.config.picture_size * upscaler.scale
        if request.size != fits:
            raise InputError(
                f"got the size {request.size}, expected {pipe.model.config.picture_size} or {fits}: choose one"
            )
        upscaler.check(pictures)
    place, size = request.place, run.call_size
    assert size is not None
    plan = list(batches(pictures, AT_ONCE, size, place))
    loops = [run.draw(batch, settings, place=place + start) for start, batch in plan]
    total = len(plan) * pipe.steps(settings)
    job.begin(total + (0 if upscaler is None else len(pictures) * upscaler.steps))
    found: list[dict[str, Any]] = []
    whole = True
    for (start, batch), steps in zip(plan, loops, strict=True):
        step, whole = with_.follow([job], steps, pipe)
        with_.counts.rows += len(batch)
        for i, pixels in enumerate(to_uint8(step.x if whole else step.x0)):
            recipe = run.recipe(batch[i], settings, place + start + i) | entries
            if not whole:
                recipe |= {
                    "made_by": f"the page, stopped after step {step.index + 1} of {pipe.steps(settings)}"
                }
            elif upscaler is not None:
                small = pixels
                large = enlarged(job, with_, upscaler, pixels, batch[i])
                pixels, whole = (small, False) if large is None else (large, True)
                recipe = (
                    recipe if large is None else with_stage(recipe, len(pixels), upscaler.recipe(batch[i]))
                )
            found.append(with_.keep(pixels, recipe))
        if not whole:
            break
    job.end("done" if whole else "stopped", pictures=tuple(found))


def enlarged(job: Job, with_: Drawing, upscaler: Any, pixels: Tensor, picture: ImageRequest) -> Tensor | None:
    """Enlarge uint8 [h,w,C] step by step: uint8 [H,W,3]; None where the job is to stop before the end."""
    budget = PreviewBudget(with_.costs.get("enlarging", 0.0))
    began, x = time.perf_counter(), None
    for index, x in enumerate(upscaler.enlarge(pixels, picture)):
        job.advance()
        if job.wants_preview and budget.allows():
            with_.preview(job, budget, x, decoded=True)
        if job.asked == "cancel":
            raise Cancelled
        if job.asked == "stop" and index + 1 < upscaler.steps:
            return None
    with_.learn("enlarging", budget)
    with_.counts.sampling_seconds += time.perf_counter() - began
    assert x is not None
    return to_uint8(x)[0]


def enlarge_picture(job: Job, with_: Drawing) -> None:
    """Enlarge a picture of the store by the model's upsampler, as scripts/upsample.py does."""
    request = job.request
    assert request.image is not None
    stored = with_.store.get(request.image)
    picture = decoded(stored)
    upscaler = with_.models.upscaler(request.model)
    asked = upscaler.request(ImageRequest(request.seed, request.caption))
    job.begin(upscaler.steps)
    colours = torch.from_numpy(picture.colours)
    pixels = enlarged(job, with_, upscaler, colours, asked)
    if pixels is None:
        raise Cancelled
    origin = {"picture": stored.name, "size": [picture.width, picture.height], "pixels": picture.digest}
    recipe = {**upscaler.recipe(asked), "scale": upscaler.scale, "enlarged": origin}
    job.end("done", pictures=(with_.keep(pixels, recipe),))


def requests_of(
    request: DrawRequest, pipe: Pipeline, settings: SamplingConfig, store: PictureStore
) -> tuple[list[ImageRequest], dict[str, Any]]:
    """The N pictures of a request, and what their recipes have besides. InputError for what does not fit."""
    label = None if request.label is None else class_number(pipe.classes(settings), request.label)
    given, entries = NO_PIXELS, dict[str, Any]()
    if request.image is not None:
        start = decoded(store.get(request.image))
        given = KnownPixels(start=init_image_of(as_image(start.pixels), pipe.model))
        entries = {"init_image": start.name, "init_sha256": start.sha256, "strength": settings.strength}
    if request.conditions or pipe.model.config.conditions:
        given, of_conditions = conditions_of(request.conditions, pipe, store, given)
        entries |= of_conditions
    pictures = [ImageRequest(request.seed + i, request.caption, label, given) for i in range(request.count)]
    return pictures, entries


def sized(pipe: Pipeline, call_size: int | None, pictures: int) -> Pipeline:
    """The pipeline of a run of so many pictures, or with network calls of the size that a recipe names."""
    if call_size is None:
        return pipe.for_run(pictures)
    run = object.__new__(type(pipe))
    run.__dict__.update(pipe.__dict__ | {"context": replace(pipe.context, call_size=call_size)})
    return run
