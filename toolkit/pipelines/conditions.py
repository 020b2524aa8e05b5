"""Pictures that a drawing is conditioned on, read from files and from Python (`glide.networks.picture_conditions`).

Shape letters: N pictures, c stored channels, H W pixels.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.data.conditions import decode_condition
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.picture_conditions import PictureCondition, conditions_named, cut_condition
from glide.networks.picture_sizes import default_size
from glide.utils.errors import InputError, warn
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE
from glide.utils.numbers import shown_number
from glide.utils.picture_size import Size, size_text
from guidance.spec import GuidanceSpec
from toolkit.pipelines.image_arguments import read_pictures
from toolkit.pipelines.image_to_image import part_used

FAR = 4
"""Times that a condition may be larger or smaller than the model's pictures before that is said."""


@dataclass(frozen=True, eq=False)
class ReadCondition:
    """The middle of a picture, as a condition as large as what is drawn."""

    kind: PictureCondition
    stored: Tensor  # uint8 [c,H,W]
    path: str | None
    """The file; None where it was in memory."""
    sha256: str
    """Of the file, or of the condition where there is none."""


def read_condition_files(texts: Sequence[str], model: Model, size: Size | None = None) -> list[ReadCondition]:
    """The conditions of a command line, each "FILE", or "KIND=FILE" for a model with several.

    size: (H, W) of what is drawn; None is the model's default. InputError, and warnings for what is cut or scaled far,
    as `read_conditions`.
    """
    kinds = _kinds(model, bool(texts))
    found: dict[str, str] = {}
    for text in texts:
        kind, path = _split(text, kinds)
        if kind.name in found:
            raise InputError(
                f"got two conditions of the kind {kind.name} ({found[kind.name]} and {path}), expected one: leave one "
                "out"
            )
        found[kind.name] = path
    return read_conditions(found, model, size)[0] if found else []


def read_conditions(value: object, model: Model, size: Size | None = None) -> list[list[ReadCondition]]:
    """The conditions that are given in Python: for all pictures, or a list of those of each.

    value: a picture, or several (a path, PIL, an array, a tensor), or a dictionary from kinds to these. size: as of
    `read_condition_files`. InputError for a model without conditions, an unknown kind, and for what is no such picture.
    """
    kinds = _kinds(model, value is not None)
    if value is None:
        return []
    several = list(value) if isinstance(value, list | tuple) else [value]
    return [_read_all(one, kinds, size or default_size(model.config)) for one in several]


def with_conditions(
    pictures: Sequence[ImageRequest], conditions: Sequence[Sequence[ReadCondition]]
) -> list[ImageRequest]:
    """N requests with their conditions: those of all, or of each `N / len(conditions)` in their order."""
    if not conditions:
        return list(pictures)
    if len(pictures) % len(conditions):
        raise InputError(
            f"got {len(conditions)} conditions for {len(pictures)} pictures, expected one, or one for each prompt: "
            "give as many"
        )
    each = len(pictures) // len(conditions)
    stored = [{one.kind.key: one.stored for one in row} for row in conditions]
    return [
        replace(picture, given=replace(picture.given, conditions=stored[i // each]))
        for i, picture in enumerate(pictures)
    ]


def recipe_of_conditions(conditions: Sequence[ReadCondition]) -> dict[str, Any]:
    """Their entries in a picture's recipe, JSON-able."""
    if not conditions:
        return {}
    paths = [f"{one.kind.name}={one.path}" for one in conditions if one.path is not None]
    return ({"condition": paths} if paths else {}) | {
        "condition_sha256": {one.kind.name: one.sha256 for one in conditions}
    }


def with_entries(
    recipes: Sequence[dict[str, Any]], conditions: Sequence[Sequence[ReadCondition]]
) -> list[dict[str, Any]]:
    """N recipes with the entries of their conditions, which are as of `with_conditions`."""
    each = len(recipes) // max(len(conditions), 1)
    return [
        one | recipe_of_conditions(conditions[i // each] if conditions else [])
        for i, one in enumerate(recipes)
    ]


def check_conditions(conditions: Sequence[ReadCondition], recipe: Mapping[str, Any], file: str) -> None:
    """InputError where the recipe, of the picture in `file`, names these files, but they held something else then."""
    paths, then = recipe.get("condition", []), recipe.get("condition_sha256", {})
    if not isinstance(paths, list) or not isinstance(then, Mapping):
        return
    for one in conditions:
        if f"{one.kind.name}={one.path}" in paths and then.get(one.kind.name) != one.sha256:
            raise InputError(
                f"the condition {one.path} is not the one any more that {file} was drawn from: give that one by "
                "--condition"
            )


def left_out(
    pictures: Sequence[ImageRequest], specs: Sequence[GuidanceSpec]
) -> tuple[list[ImageRequest], list[GuidanceSpec]]:
    """The requests without their conditions where the guidance `picture` has strength 0 throughout, and the others.

    Eq. 3 of 2211.09800 would still lead the words by the picture then; strength 0 is the model without it.
    """
    zero = [
        spec
        for spec in specs
        if spec.name == "picture" and spec.scale == 0.0 and spec.interval is None and spec.schedule is None
    ]
    if not zero:
        return list(pictures), list(specs)
    without = [replace(one, given=one.given.without_conditions()) for one in pictures]
    return without, [spec for spec in specs if spec not in zero]


def _kinds(model: Model, given: bool) -> dict[str, PictureCondition]:
    """The model's kinds by name. InputError where a condition is given and there are none."""
    kinds = {kind.name: kind for kind in conditions_named(model.config.conditions)}
    if given and not kinds:
        raise InputError(
            "got a condition for a model that is conditioned on no picture, expected one that train_base.py trained "
            "with --condition: leave it out"
        )
    return kinds


def _split(text: str, kinds: Mapping[str, PictureCondition]) -> tuple[PictureCondition, str]:
    """The kind and the path of a command line's condition."""
    name, equals, path = text.partition("=")
    if equals and name in kinds:
        return kinds[name], path
    if len(kinds) > 1:
        raise InputError(
            f"got the condition {text} for a model of several ({', '.join(kinds)}), expected its kind, too: write for "
            f"example {next(iter(kinds))}={text}"
        )
    (kind,) = kinds.values()
    return kind, text


def _read_all(value: object, kinds: Mapping[str, PictureCondition], size: Size) -> list[ReadCondition]:
    """The conditions of one picture."""
    if not isinstance(value, Mapping):
        if len(kinds) > 1:
            raise InputError(
                f"got one condition for a model of several ({', '.join(kinds)}), expected a dictionary of them: write "
                f"condition={{{next(iter(kinds))!r}: picture}}"
            )
        value = {next(iter(kinds)): value}
    found = []
    for name, one in value.items():
        if name not in kinds:
            raise InputError(
                f"got a condition of the kind {shown_number(name)}, expected {' or '.join(kinds)}: choose one of these"
            )
        found.append(_read(one, kinds[name], size))
    return found


def _read(value: object, kind: PictureCondition, size: Size) -> ReadCondition:
    path = os.path.expanduser(os.fsdecode(value)) if isinstance(value, str | os.PathLike) else None
    if path is not None:
        data = read_bytes(path, LARGEST_FILE)
        picture, digest = decode_condition(data, path, kind), hashlib.sha256(data).hexdigest()
    else:
        picture, digest = _in_memory(value, kind), None
    name = path or f"the condition {kind.name}"
    _say_changes(picture, name, size)
    try:
        stored = torch.from_numpy(np.array(kind.read(cut_condition(picture, kind, size))).transpose(2, 0, 1))
    except InputError as error:
        raise InputError(f"{name} {error}") from error
    return ReadCondition(kind, stored, path, digest or hashlib.sha256(stored.numpy().tobytes()).hexdigest())


def _in_memory(value: object, kind: PictureCondition) -> Image.Image:
    """A picture in memory; the numbers of a map as they are."""
    if kind.nearest:
        if isinstance(value, Image.Image):
            return value
        numbers = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
        if numbers.ndim == 3 and 1 in (numbers.shape[0], numbers.shape[-1]):
            numbers = numbers[0] if numbers.shape[0] == 1 else numbers[..., 0]
        whole = np.issubdtype(numbers.dtype, np.integer) or numbers.dtype == np.bool_
        if numbers.ndim != 2 or not whole or numbers.size == 0 or numbers.min() < 0 or numbers.max() > 255:
            raise InputError(
                f"got the condition {kind.name} of shape {'x'.join(map(str, numbers.shape))} and {numbers.dtype}, "
                "expected class numbers [H,W] from 0 to 255: convert it"
            )
        return Image.fromarray(numbers.astype(np.uint8))
    (read,) = read_pictures(value, f"the condition {kind.name}")
    return read.picture


def _say_changes(picture: Image.Image, name: str, size: Size) -> None:
    width, height = picture.size
    if (part := part_used(picture, size)) is not None:
        warn(f"{name} is {width}x{height}: its middle {part} is the condition", stacklevel=3)
    times = min(height / size[0], width / size[1])
    if times <= 1 / FAR or times >= FAR:
        warn(f"{name} is {width}x{height}: it is scaled to the model's {size_text(size)}", stacklevel=3)
