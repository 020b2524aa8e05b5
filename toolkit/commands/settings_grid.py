"""Draw a grid of pictures over two settings.

Shape letters: R rows, K columns, H W pixels.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor

from glide.diffusion.samplers.registry import find_sampler
from glide.networks.image_request import ImageRequest
from glide.utils.class_names import class_number
from glide.utils.contact_sheet import labelled_grid
from glide.utils.errors import InputError
from glide.utils.file_locks import write_beside
from glide.utils.image_files import check_output
from glide.utils.images import save_png, to_uint8
from glide.utils.printable import say
from glide.utils.progress import progress
from toolkit.commands.sample_flags import CAPTIONS
from toolkit.commands.settings_grid_flags import Axis, SettingsGrid
from toolkit.pipelines.pipeline import Pipeline


def settings_grid(args: SettingsGrid) -> Tensor:
    """Draw all pictures and write the grid; returns them, uint8 [R,K,H,W,3]. Prints where it is.

    InputError, before anything is drawn, for settings that do not fit.
    """
    x, y = args.axes()
    check_output(args.out, args.overwrite)
    rows = Axis("", ("",), (None,)) if y is None else y
    cells = [
        [replace(args, **{x.name: column}, **({rows.name: row} if y else {})) for column in x.values]
        for row in rows.values
    ]
    pipes = {
        name: Pipeline.from_pretrained(name, args.device, args.dtype)
        for name in dict.fromkeys(cell.model for line in cells for cell in line)
    }
    jobs = [[_request(cell, pipes[cell.model]) for cell in line] for line in cells]
    for cell in chain.from_iterable(cells):
        _check(cell, pipes[cell.model])
    with progress(total=len(cells) * len(x.values), desc="drawing", unit="picture") as bar:
        drawn = []
        for line, requests in zip(cells, jobs, strict=True):
            for cell, request in zip(line, requests, strict=True):
                drawn.append(_draw(cell, pipes[cell.model], request))
                bar.update()
    sizes = {tuple(one.shape) for one in drawn}
    if len(sizes) > 1:
        raise InputError("got models of pictures of different sizes, expected one size: leave some out")
    pictures = torch.stack(drawn).unflatten(0, (len(cells), len(x.values)))
    sheet = labelled_grid(pictures, _labels(x), _labels(rows))
    recipe = {"made_by": "settings_grid.py", **asdict(args), "out": None}
    path = write_beside(Path(args.out), partial(save_png, image=sheet, recipe=recipe, replace=args.overwrite))
    say(f"grid: {path.resolve()}")
    return pictures


def _request(cell: SettingsGrid, pipe: Pipeline) -> ImageRequest:
    """The request of one picture. InputError for a caption or a class that does not fit the model."""
    config = pipe.model.config
    caption = cell.prompt
    if caption is None:
        caption = CAPTIONS[0] if config.reads_captions else ""
    label = None if cell.label is None else class_number(config, cell.label)
    return ImageRequest(cell.seed, caption, label)


def _check(cell: SettingsGrid, pipe: Pipeline) -> None:
    """InputError for settings of one picture that do not fit."""
    settings = cell.settings(pipe.conditioner.has_null).settled(pipe.model.config)
    find_sampler(settings.sampler)
    pipe.steps(settings)


def _draw(cell: SettingsGrid, pipe: Pipeline, request: ImageRequest) -> Tensor:
    """One picture, uint8 [H,W,3]."""
    for step in pipe.for_run(1).draw([request], cell.settings(pipe.conditioner.has_null)):
        last = step
    return to_uint8(last.x)[0]


def _labels(axis: Axis) -> list[str]:
    """The values of an axis as they stand on its edge."""
    name = axis.name.replace("_", " ")
    return [f"{name} {label}".strip() if name not in ("prompt", "model") else label for label in axis.labels]
