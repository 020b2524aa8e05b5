"""Pictures: tensors to pixels and back, PNG files with their recipe, grids, GIFs and animated PNGs.

N pictures, H W pixels, C channels (`glide.utils.channels`). Pixels are uint8 with the channels last; tensors are float
in [-1, 1] with the channels first.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin
from torch import Tensor

from glide.utils.atomic_write import atomic_path
from glide.utils.channels import check_channels, on_white
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE, BrokenImageError, decode_picture, open_picture
from glide.utils.json_files import as_table, parse_json

Pixels = Tensor | NDArray[np.uint8]
RECIPE = "glide"  # the keyword of the PNG's text chunk


def to_uint8(x: Tensor) -> Tensor:
    """[N, C, H, W] in [-1, 1] -> uint8 [N, H, W, C] on the CPU; values outside the range are clamped.

    (x + 1) * 127.5, rounded as in GLIDE's release, not truncated as in ADM's: so a known pixel that went through
    `from_uint8` is restored exactly, whereas truncation would darken one in four by 1.
    """
    pixels = ((x.detach().float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return pixels.permute(0, 2, 3, 1).contiguous().cpu()


def from_uint8(pixels: Pixels) -> Tensor:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W] in [-1, 1], the exact inverse of `to_uint8`."""
    return to_float(torch.as_tensor(pixels).permute(0, 3, 1, 2)).contiguous()


def to_float(image: Tensor) -> Tensor:
    """uint8 [N, C, H, W] of a data set -> float32 in [-1, 1], in the same layout; float32 stays as it is."""
    return image.to(torch.float32).div_(127.5).sub_(1) if image.dtype == torch.uint8 else image


def save_png(
    path: str | Path,
    image: Pixels | Image.Image,
    recipe: dict[str, Any] | None = None,
    profile: bytes | None = None,
    replace: bool = True,
) -> None:
    """Write uint8 [H, W, C], or a picture, atomically. InputError as `as_image`.

    recipe: JSON-able, stored in the file's metadata. profile: the ICC colour profile of the picture that this one was
    made from. replace, errors: as of `glide.utils.atomic_write.atomic_path`.
    """
    picture = image if isinstance(image, Image.Image) else as_image(image)
    info = _with_recipe(recipe)
    with atomic_path(path, replace) as temporary:
        picture.save(temporary, format="PNG", pnginfo=info, icc_profile=profile)


def png_bytes(
    image: Pixels | Image.Image, recipe: dict[str, Any] | None = None, profile: bytes | None = None
) -> bytes:
    """The bytes of the file that `save_png` writes; arguments and errors as there."""
    picture = image if isinstance(image, Image.Image) else as_image(image)
    file = io.BytesIO()
    picture.save(file, format="PNG", pnginfo=_with_recipe(recipe), icc_profile=profile)
    return file.getvalue()


def read_recipe(path: str | Path) -> dict[str, Any]:
    """The recipe that `save_png` wrote. InputError if the file is missing, not a PNG, or has none."""
    return recipe_in(read_bytes(path, LARGEST_FILE), path)


def recipe_in(data: bytes, path: str | Path) -> dict[str, Any]:
    """The recipe in a PNG's bytes. path: for messages. InputError if they are no PNG, or have none."""
    try:
        with open_picture(data, path, formats=("PNG",)) as image:
            text = image.info.get(RECIPE)
    except BrokenImageError as error:
        raise BrokenImageError(f"{path} is not a PNG picture: give one that this toolkit drew") from error
    if not isinstance(text, str):
        raise InputError(
            f"{path} carries no recipe: give a PNG of this toolkit that no other program saved again"
        )
    return as_table(parse_json(text, where := f"the recipe in {path}"), where)


def grid(images: Pixels, columns: int | None = None, pad: int = 2) -> Tensor:
    """uint8 [N, H, W, C] -> one uint8 [H', W', C] row by row, `pad` white pixels between and around pictures.

    columns: by default as many as make the grid about square.
    """
    pixels = torch.as_tensor(images)
    count, height, width, colours = pixels.shape
    columns = min(columns or math.ceil(math.sqrt(count)), count)
    rows = math.ceil(count / columns)
    down, across = height + pad, width + pad
    sheet = torch.full((rows * down + pad, columns * across + pad, colours), 255, dtype=torch.uint8)
    for i, picture in enumerate(pixels):
        y, x = pad + i // columns * down, pad + i % columns * across
        sheet[y : y + height, x : x + width] = picture
    return sheet


def save_gif(
    path: str | Path,
    frames: Sequence[Pixels] | Pixels,
    ms: int | Sequence[int] = 50,
    replace: bool = True,
) -> None:
    """Write frames, uint8 [H, W, C] each, as an endless animation, atomically, with transparency on white.

    ms: duration of every frame, or of each. GIF counts in steps of 10 ms, and below 20 many viewers slow down.
    replace, errors: as of `glide.utils.atomic_write.atomic_path`.
    """
    first, *others = [_opaque(as_image(frame)) for frame in frames]
    duration = ms if isinstance(ms, int) else list(ms)
    with atomic_path(path, replace) as temporary:
        first.save(temporary, format="GIF", save_all=True, append_images=others, duration=duration, loop=0)


def save_apng(
    path: str | Path,
    frames: Sequence[Pixels] | Pixels,
    ms: int | Sequence[int] = 50,
    recipe: dict[str, Any] | None = None,
    replace: bool = True,
) -> None:
    """Write frames, uint8 [H, W, C] each, as an endless animated PNG, atomically, with all colours and transparency.

    ms: duration of every frame, or of each. recipe, replace, errors: as of `save_png`. A viewer that knows no
    animations shows the first frame.
    """
    first, *others = [as_image(frame) for frame in frames]
    duration = ms if isinstance(ms, int) else list(ms)
    with atomic_path(path, replace) as temporary:
        first.save(
            temporary,
            format="PNG",
            save_all=True,
            append_images=others,
            duration=duration,
            loop=0,
            pnginfo=_with_recipe(recipe),
        )


def _with_recipe(recipe: dict[str, Any] | None) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    if recipe is not None:
        text = json.dumps(recipe, ensure_ascii=False)
        # half a surrogate pair (an argument that was not UTF-8) is written as JSON's \udcxx
        info.add_itxt(RECIPE, text.encode("utf-8", "backslashreplace").decode())
    return info


def load_image(path: str | Path) -> Tensor:
    """uint8 [H, W, 3] of a picture file, local or remote, as a viewer shows it.

    It is turned by its EXIF data; transparency is put on white; 16-bit grey is scaled down; an animation gives its
    first frame. Colour profiles are not applied. InputError if the file cannot be read, BrokenImageError if it is no
    picture, damaged, or larger than Pillow's limit against decompression bombs.
    """
    return decode_image(read_bytes(path, LARGEST_FILE), path)


def decode_image(data: bytes, name: str | Path) -> Tensor:
    """The picture in a file's bytes, as `load_image`; `name` is for the message."""
    picture, _ = decode_picture(data, name)
    return torch.from_numpy(np.array(on_white(picture)))


def as_image(pixels: Pixels) -> Image.Image:
    """uint8 [H, W, C] -> a grey picture, an RGB or an RGBA one. InputError for other numbers of channels."""
    array = np.ascontiguousarray(pixels)
    assert array.dtype == np.uint8 and array.ndim == 3, (
        f"expected uint8 [H, W, C], got {array.dtype} {array.shape}"
    )
    check_channels(array.shape[2], "the picture to be written")
    return Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)


def _opaque(picture: Image.Image) -> Image.Image:
    return on_white(picture) if picture.mode == "RGBA" else picture
