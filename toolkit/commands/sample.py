"""Draw pictures of captions or classes, with a progress bar, and write them with their recipes.

Shape letters: N pictures of the run, H W pixels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.networks.fixed_batch import batches
from glide.networks.image_request import ImageRequest
from glide.networks.picture_sizes import default_size
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.file_locks import NumberedOutputs, count, names
from glide.utils.images import grid, save_gif, save_png, to_uint8
from glide.utils.memory import BYTES_PER_RECORD, check_memory
from glide.utils.parts import Part
from glide.utils.picture_size import Size, recorded_size
from glide.utils.printable import say
from glide.utils.progress import Bar, progress
from guidance.registry import named
from toolkit.commands.sample_flags import CAPTIONS, Sample
from toolkit.commands.sample_list import draw_list_part, load_drawing
from toolkit.commands.sample_models import load_models
from toolkit.commands.upscale_flags import size_of
from toolkit.pipelines.image_embeddings import (
    check_embeddings,
    embeddings_by_prior,
    entries_of,
    with_embeddings,
)
from toolkit.pipelines.pipeline import Pipeline, Step
from toolkit.pipelines.recipe import with_stage
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler

FRAMES = 60  # of an animation, at most
LABELS = 8  # classes drawn where none is asked for


@dataclass(frozen=True)
class Job:
    """All that a run draws, checked before its first step."""

    run: Pipeline
    settings: SamplingConfig
    pictures: list[ImageRequest]
    recipes: list[dict[str, Any]]
    """One for each picture."""
    place: int
    """Place of the first picture in its network call."""
    upscaler: Upscaler | None
    ranking: Callable[[Tensor], list[int]] | None
    """The order of the pictures to keep, as of `_ranking`; None keeps all."""

    @property
    def suffix(self) -> str:
        """Suffix of the names of small pictures that are kept beside enlarged ones."""
        size = recorded_size(self.settings.size or default_size(self.run.model.config))
        return "" if self.upscaler is None else f"-{size}"


def sample(args: Sample, recipe: Mapping[str, Any] | None = None) -> list[Path]:
    """Draw and write the pictures; returns the paths of all N. recipe: of the picture that --like repeats.

    Prints where the pictures are. InputError for what cannot be drawn or written.
    """
    if args.in_parts:
        draw_list_part(args, load_drawing(args), Part.parse(args.part or "1/1"))
        return []
    job = _prepare(args, recipe)
    assert job.run.call_size is not None
    plan = list(batches(job.pictures, args.batch_size, job.run.call_size, job.place))
    runs = ((start, job.run.draw(batch, job.settings, place=job.place + start)) for start, batch in plan)
    head = next(runs)  # errors of the first batch come before there is a folder or a bar
    steps = job.run.steps(job.settings)
    pictures, recipes = job.pictures, job.recipes
    with NumberedOutputs(args.out) as out:
        parts: list[Tensor] = []
        frames: list[list[Tensor]] = []
        with progress(total=len(plan) * steps, desc=f"drawing {count(pictures)}", unit="step") as bar:
            for start, of_batch in chain([head], runs):
                pixels, seen = _draw(args, of_batch, steps, bar)
                parts.append(pixels)
                frames.append(seen)
                if job.ranking is None:
                    _write(out, pixels, recipes[start:], job.suffix)
        drawn, sheets = torch.cat(parts), [torch.cat(frame) for frame in zip(*frames, strict=True)]
        of_all = _recipe_of_all(recipes, args)
        if job.ranking is not None:
            kept = job.ranking(drawn)
            drawn, sheets = drawn[kept], [sheet[kept] for sheet in sheets]
            pictures, recipes = [pictures[i] for i in kept], [recipes[i] for i in kept]
            _write(out, drawn, recipes, job.suffix)
        paths = list(out.paths)
        if job.upscaler is not None:
            drawn, paths = _enlarge(job.upscaler, drawn, pictures, recipes, out)
            of_all = with_stage(of_all, size_of(drawn), job.upscaler.recipe(pictures[0]))
        together = _together(args, out.folder / f"grid-{paths[0].stem}", drawn, sheets, of_all)
    say(f"{count(paths)} in {out.folder.resolve()}: {names(paths)}")
    for what, path in together.items():
        say(f"{what}: {path.resolve()}")
    return paths


def _prepare(args: Sample, recipe: Mapping[str, Any] | None) -> Job:
    """Load the models and check everything. InputError for what cannot be drawn."""
    ready = load_models(args, recipe)
    pipe, settings, upscaler = ready.pipe, ready.settings, ready.upscaler
    subjects = _subjects(args, pipe, settings)
    _check_memory(args, settings.size or default_size(pipe.model.config), upscaler, len(subjects))
    pictures = [
        ImageRequest(args.seed + i, *subjects[i // args.num_samples], ready.given)
        for i in range(len(subjects) * args.num_samples)
    ]
    drawn = (
        [] if args.prior is None else embeddings_by_prior(args.prior, pictures, pipe.model, args.prior_scale)
    )
    check_embeddings(drawn, recipe or {}, str(args.like))
    pictures = with_embeddings(pictures, drawn, pipe.model)
    run = pipe.for_run(len(pictures))
    ranking = _ranking(args, pipe, subjects)
    if upscaler is not None:
        upscaler.check(pictures)
    recipes = [
        run.recipe(picture, settings, ready.place + i) | ready.entries | entries
        for i, (picture, entries) in enumerate(zip(pictures, entries_of(drawn, len(pictures)), strict=True))
    ]
    return Job(run, settings, pictures, recipes, ready.place, upscaler, ranking)


def _draw(args: Sample, batch: Iterator[Step], steps: int, bar: Bar) -> tuple[Tensor, list[Tensor]]:
    """The n pictures of a batch, uint8 [n,H,W,3], and frames of an animation, each of that shape.

    steps: of a run, which `bar` counts.
    """
    seen = []
    for step in batch:
        if args.gif and _is_frame(step, steps):
            seen.append(to_uint8(step.x if args.gif_frames == "xt" else step.x0))
        bar.update()
    return to_uint8(step.x), seen


def _check_memory(args: Sample, size: Size, stage: Upscaler | None, subjects: int) -> None:
    """InputError for more pictures than the machine can hold at once, as a grid of all of them needs them."""
    count, pixels = subjects * args.num_samples, size[0] * size[1]
    final = pixels * (1 if stage is None else stage.scale**2)
    needed = count * (3 * final + BYTES_PER_RECORD) + 3 * 4 * pixels * min(args.batch_size, count)
    check_memory(needed, f"{count} pictures", "lower --num-samples or --batch-size, or make several runs")


def _enlarge(
    stage: Upscaler,
    small: Tensor,
    pictures: Sequence[ImageRequest],
    recipes: Sequence[dict[str, Any]],
    out: NumberedOutputs,
) -> tuple[Tensor, list[Path]]:
    """Large pictures, uint8 [n,H,W,3], of the small ones, each written beside it without the suffix of its name."""
    pixels, written = [], []
    total = len(pictures) * stage.steps
    with progress(total=total, desc=f"enlarging {count(pictures)}", unit="step") as bar:
        for image, picture, recipe, path in zip(small, pictures, recipes, list(out.paths), strict=True):
            for x in stage.enlarge(image, picture):
                bar.update()
                last = x
            pixels.append(to_uint8(last))
            full = with_stage(recipe, size_of(pixels[-1]), stage.recipe(picture))
            written.append(out.complete(path, partial(save_png, image=pixels[-1][0], recipe=full)))
    return torch.cat(pixels), written


def _write(out: NumberedOutputs, pixels: Tensor, recipes: Sequence[dict[str, Any]], suffix: str = "") -> None:
    """Pictures, uint8 [n,H,W,3], in the next free numbers of a folder, each with its recipe."""
    for image, recipe in zip(pixels, recipes, strict=False):
        out.add(partial(save_png, image=image, recipe=recipe, replace=False), suffix)


def _ranking(
    args: Sample, pipe: Pipeline, subjects: Sequence[tuple[str, int | None]]
) -> Callable[[Tensor], list[int]] | None:
    """From all pictures, uint8 [N,H,W,3], to the places of those to keep, the best of each caption first.

    None without --rerank. InputError, before anything is drawn, for captions that the CLIP cannot read.
    """
    if args.rerank is None:
        return None
    from guidance.clip.rerank import best_places

    clip = pipe.guide_networks.clip(args.guiding)
    captions = [caption for caption, _ in subjects]
    if not all(captions):
        raise InputError("got an empty caption to rank pictures by, expected words: describe the picture")
    clip.embed_captions(captions)

    return lambda pixels: best_places(clip, pixels, captions, args.kept)


def _is_frame(step: Step, steps: int) -> bool:
    """True for a step that the animation shows: evenly, the last one always."""
    every = -(-steps // FRAMES)
    return (steps - 1 - step.index) % every == 0


def _together(
    args: Sample, stem: Path, pixels: Tensor, sheets: Sequence[Tensor], recipe: dict[str, Any]
) -> dict[str, Path]:
    """Write the grid and the animation of all pictures: a row for each caption where there are several of each."""
    columns = args.kept if 1 < args.kept < len(pixels) else None
    written: dict[str, Path] = {}
    if args.grid:
        written["grid"] = path = stem.with_suffix(".png")
        save_png(path, grid(pixels, columns), recipe, replace=False)
    if args.gif:
        written["animation"] = path = stem.with_suffix(".gif")
        frames = [grid(sheet, columns) for sheet in sheets]
        save_gif(path, frames, [60] * (len(frames) - 1) + [2000], replace=False)
    return written


def _recipe_of_all(recipes: Sequence[dict[str, Any]], args: Sample) -> dict[str, Any]:
    """One recipe for all pictures of a run, with which --like draws them all again."""
    found = dict(recipes[0])
    for name in ("prompt", "label", "class"):
        if name in found:
            del found[name]
            several = [r.get(name) for r in recipes[:: args.num_samples]]
            found[name + ("es" if name == "class" else "s")] = several
    if args.rerank is not None:
        clip = {"clip": args.guiding.clip, "clip_vocab": args.guiding.clip_vocab}
        options = found.get("options", {}) | {
            name: value for name, value in clip.items() if value is not None
        }
        found |= {"rerank": args.rerank, "keep": args.kept, "options": options}
    return found | {"num_samples": args.num_samples, "num_pictures": len(recipes)}


def _subjects(args: Sample, pipe: Pipeline, settings: SamplingConfig) -> list[tuple[str, int | None]]:
    """A caption and a class number, where the model or a guidance takes them, for each `num_samples` pictures."""
    config, classes = pipe.model.config, pipe.classes(settings)
    captions = [caption.strip() for caption in args.captions()]
    labels: list[int | None] = [class_number(classes, label) for label in args.label]
    reads = any(named(spec.name).captions for spec in settings.specs) or args.rerank is not None
    reads = reads or args.prior is not None
    if captions and not config.reads_captions and not reads:
        raise InputError(
            f"got a caption for {args.model}, a model without text, expected none: leave --prompt out"
        )
    if args.like_image is not None and not captions:
        captions = [""] * max(len(labels), 1)
    if (config.reads_captions or reads) and not captions:
        # labels of a guidance's alone say what to draw
        captions = (
            [""] * len(labels) if labels and not config.num_classes else list(CAPTIONS[: len(labels) or None])
        )
    if classes.num_classes and not labels:
        labels = [None] * len(captions) if captions else list(range(min(LABELS, classes.num_classes)))
    if captions and labels and len(captions) != len(labels):
        raise InputError(f"got {len(captions)} captions and {len(labels)} classes, expected as many of each")
    count = max(len(captions), len(labels), 1)
    return list(zip(captions or [""] * count, labels or [None] * count, strict=True))
