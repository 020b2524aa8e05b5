"""A picture that a run begins with, in place of noise alone (SDEdit, 2108.01073).

Shape letters: H W pixels, C channels of the model's pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from glide.networks.model import Model
from glide.networks.picture_sizes import default_size
from glide.utils.channels import in_mode
from glide.utils.errors import InputError, warn
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE, as_shown, decode_picture
from glide.utils.images import from_uint8
from glide.utils.picture_size import Size
from glide.utils.resize import crop_box, cropped_picture


@dataclass(frozen=True, eq=False)
class InitImage:
    """The middle of a picture's file, as large as what is drawn."""

    path: str
    image: Tensor  # [C,H,W] in [-1, 1]
    sha256: str  # of the file

    def recipe(self, strength: float) -> dict[str, Any]:
        """Its entries in a picture's recipe, JSON-able."""
        return {"init_image": self.path, "init_sha256": self.sha256, "strength": strength}

    def check(self, recipe: Mapping[str, Any], file: str) -> None:
        """InputError where the recipe, of the picture in `file`, names this picture, but it was another one then."""
        if recipe.get("init_image") == self.path and recipe.get("init_sha256") != self.sha256:
            raise InputError(
                f"the picture {self.path} is not the one any more that {file} began with: give that one by "
                "--init-image"
            )


def read_init_image(path: str, model: Model, size: Size | None = None) -> InitImage:
    """InputError and warnings as `glide.utils.image_files.read_picture`; a picture of another shape is said to be cut.

    size: (H, W) of what is drawn; None is the model's default.
    """
    data = read_bytes(path, LARGEST_FILE)
    picture, lost = decode_picture(data, path)
    for what in lost:
        warn(f"{path} {what}", stacklevel=2)
    if (part := part_used(picture, size or default_size(model.config))) is not None:
        warn(f"{path} is {picture.width}x{picture.height}: its middle {part} is the start", stacklevel=2)
    return InitImage(path, init_image_of(picture, model, size), hashlib.sha256(data).hexdigest())


def part_used(picture: Image.Image, size: Size) -> str | None:
    """The part of a picture that has the shape of `size`, in words; None where it is the whole, but for a pixel."""
    left, top, right, bottom = crop_box((picture.height, picture.width), size)
    if max(picture.width - (right - left), picture.height - (bottom - top)) <= 1:
        return None
    return "square" if size[0] == size[1] else f"part of {right - left}x{bottom - top}"


def init_image_of(picture: Image.Image, model: Model, size: Size | None = None) -> Tensor:
    """The middle of a picture, as large as what is drawn: [C,H,W] in [-1, 1]; transparency lies on white.

    size: (H, W); None is the model's default. The picture is taken as its file would be: turned as its EXIF data say,
    deep colours reduced to 8 bits.
    """
    height, width = size or default_size(model.config)
    cut = cropped_picture(in_mode(as_shown(picture)[0], model.config.picture_channels), (height, width))
    pixels = torch.from_numpy(np.array(cut)).view(1, height, width, -1)
    return from_uint8(pixels)[0]
