"""Progress pictures of a model in training: always the same captions or classes, from the same noise.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.image_encoders import find_image_encoder
from glide.diffusion.samplers.registry import DEFAULT_SAMPLER, OWN
from glide.networks.config import ModelConfig
from glide.networks.image_request import NO_PIXELS, ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.picture_conditions import PictureCondition, conditions_named
from glide.utils.contact_sheet import contact_sheet, enlarged, row_height
from glide.utils.errors import warn
from glide.utils.images import grid, save_png, to_float, to_uint8
from glide.utils.picture_size import Size
from glide.utils.progress import progress
from toolkit.pipelines.denoising_loop import NotFinite
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

GREY = 0.0  # what a masked pixel is shown as
ROOM = 4  # pixels of a grid's white lines above and below its first row


def sample_grid(model: Model, path: Path, captions: Sequence[str], scale: float = 3.0) -> int | None:
    """Draw two pictures of each caption (or of the first classes) in 25 steps and write them as one PNG.

    Each has its caption or the name of its class below it. Returns the height of a row, in pixels;
    None, with a warning, where the model draws none.
    """
    # a copy: drawing freezes its weights, and rounds them
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    config = model.config
    subjects: list[tuple[str, int | None]] = [("", None)] * 8
    if config.num_classes:
        subjects = [("", label) for label in range(min(8, config.num_classes))]
    elif config.reads_captions:
        subjects = [(caption, None) for caption in captions]
    twice = [subject for subject in subjects for _ in range(2)]
    x = _drawn(pipe, [ImageRequest(i, *subject) for i, subject in enumerate(twice)], scale)
    if x is None:
        return None
    names = [caption if label is None else _name(config, label) for caption, label in twice]
    return _write(path, to_uint8(x), names, 8)


def batch_grid(model: Model, path: Path, batch: Mapping[str, Any], scale: float = 3.0) -> int | None:
    """Draw from a batch's masks or conditions, whichever the model has."""
    return (fill_grid if model.config.inpaint else conditioned_grid)(model, path, batch, scale)


def conditioned_grid(model: Model, path: Path, batch: Mapping[str, Any], scale: float = 3.0) -> int | None:
    """Columns: each condition, the picture that it belongs to, and what the model draws from it.

    Of a model of image embeddings, the second is a variation of the first, drawn without its caption. batch: as in
    training, with conditions [N,c,H,W]. Drawn in 25 steps and written as one PNG, with captions. Returns
    as `sample_grid`.
    """
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    kinds = conditions_named(model.config.conditions)
    image, (captions, labels) = to_float(batch["image"]).cpu(), _subjects(model.config, batch)
    given = [KnownPixels(conditions=row) for row in conditions_of(batch, kinds)]
    if model.config.image_encoder is not None:
        embeddings = find_image_encoder(model.config.image_encoder).encode(image)
        given = [replace(one, embedding=z) for one, z in zip(given, embeddings, strict=True)]
        captions, scale = [""] * len(image), 1.0
    rows = zip(captions, labels, given, strict=True)
    requests = [ImageRequest(i, *row) for i, row in enumerate(rows)]
    drawn = _drawn(pipe, requests, scale, size=(image.shape[2], image.shape[3]))
    if drawn is None:
        return None
    sheet = torch.stack([*shown_conditions(batch, kinds), image, drawn], dim=1).flatten(
        0, 1
    )  # [(K+2)N,C,H,W]
    words = [*(kind.name for kind in kinds), "picture", "drawn"]
    names = [f"{word}: {name}" for name in _names(model.config, captions, labels) for word in words]
    return _write(path, to_uint8(sheet), names, len(words))


def conditions_of(batch: Mapping[str, Any], kinds: Sequence[PictureCondition]) -> list[dict[str, Tensor]]:
    """The conditions [c,H,W] of each picture of a batch by their keys, on the CPU."""
    return [{kind.key: batch[kind.key][i].cpu() for kind in kinds} for i in range(len(batch["image"]))]


def shown_conditions(batch: Mapping[str, Any], kinds: Sequence[PictureCondition]) -> list[Tensor]:
    """The conditions of a batch as pictures [N,C,H,W] in [-1, 1], one for each kind."""
    channels = batch["image"].shape[1]
    return [in_channels_of(to_float(kind.shown(batch[kind.key].cpu())), channels) for kind in kinds]


def in_channels_of(x: Tensor, channels: int) -> Tensor:
    """RGB [N,3,H,W] in [-1, 1] as [N,C,H,W]: grey, RGB, or opaque RGBA."""
    if channels == 1:
        return x.mean(dim=1, keepdim=True)
    return x if channels == 3 else torch.cat([x, torch.ones_like(x[:, :1])], dim=1)


def fill_grid(model: Model, path: Path, batch: Mapping[str, Any], scale: float = 3.0) -> int | None:
    """Four columns: pictures, the same masked, what the model fills in, and what it draws where all is unknown.

    Before them come the pictures that the model is conditioned on.

    batch: image [N,3,H,W], inpaint_mask [N,1,H,W] (1 is known), and caption or y, as in training. Drawn in 25 steps
    and written as one PNG, with captions. Returns as `sample_grid`.
    """
    pipe = Pipeline(copy.deepcopy(model), owned=True)
    config = model.config
    image, mask = to_float(batch["image"]).cpu(), batch["inpaint_mask"].cpu()
    captions, labels = _subjects(config, batch)
    kinds = conditions_named(config.conditions)
    shown = conditions_of(batch, kinds)

    def draw(given: Sequence[KnownPixels]) -> Tensor | None:
        given = [replace(one, conditions=row) for one, row in zip(given, shown, strict=True)]
        rows = zip(captions, labels, given, strict=True)
        pictures = [ImageRequest(i, *row) for i, row in enumerate(rows)]
        return _drawn(pipe, pictures, scale, "ddim", (image.shape[2], image.shape[3]))

    filled = draw([KnownPixels(image=one, mask=known) for one, known in zip(image, mask, strict=True)])
    free = draw([NO_PIXELS] * len(image))
    if filled is None or free is None:
        return None
    columns = [*shown_conditions(batch, kinds), image, image * mask + GREY * (1 - mask), filled, free]
    sheet = torch.stack(columns, dim=1).flatten(0, 1)  # [(K+4)N,C,H,W]
    names = _names(config, captions, labels)
    notes = (*(kind.name for kind in kinds), "", "masked", "filled in", "all unknown")
    words = [note or name for name in names for note in notes]
    return _write(path, to_uint8(sheet), words, len(notes))


def _drawn(
    pipe: Pipeline,
    pictures: Sequence[ImageRequest],
    scale: float,
    sampler: str = DEFAULT_SAMPLER,
    size: Size | None = None,
) -> Tensor | None:
    """x [N,C,H,W] of these pictures, on the CPU, with a bar of its own; None, with a warning, if it is not finite.

    size: (H, W), by default the model's.
    """
    guided = pipe.conditioner.has_null and scale != 1.0
    student = pipe.model.config.student  # which draws in its own way
    settings = SamplingConfig(
        sampler if student is None else OWN,
        "25" if student is None or not student.steps else OWN,
        guidance="cfg" if guided else "none",
        scale=scale if guided else None,
        size=size,
    )
    run = pipe.for_run(len(pictures))
    drawing = run.draw(pictures, settings)
    try:
        for step in progress(drawing, total=run.steps(settings), desc="progress pictures", leave=False):
            last = step
    except NotFinite as error:  # of a run that diverges, which has means of its own against that
        warn(f"no progress pictures: {error}")
        return None
    return last.x.cpu()


def _subjects(config: ModelConfig, batch: Mapping[str, Any]) -> tuple[list[str], list[int | None]]:
    """Caption and class of each picture of a batch, as far as the model reads them."""
    count = len(batch["image"])
    captions = list(batch["caption"]) if config.reads_captions else [""] * count
    return captions, batch["y"].tolist() if config.num_classes else [None] * count


def _names(config: ModelConfig, captions: Sequence[str], labels: Sequence[int | None]) -> list[str]:
    pairs = zip(captions, labels, strict=True)
    return [caption if label is None else _name(config, label) for caption, label in pairs]


def _name(config: ModelConfig, label: int) -> str:
    return config.class_names[label] if config.class_names else f"class {label}"


def _write(path: Path, pixels: Tensor, captions: Sequence[str], columns: int) -> int:
    """uint8 [N,H,W,3] as a sheet with captions; without any, as a grid. Returns the height of a row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not any(captions):
        save_png(path, grid(pixels, columns=columns))
        return pixels.shape[1] + ROOM
    large = enlarged(pixels)
    save_png(path, contact_sheet(large, captions, columns))
    return row_height(large.shape[1])
