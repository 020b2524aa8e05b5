"""Pictures that are given in Python: paths, PIL pictures, arrays and tensors, one or several.

    pictures = read_pictures("photo.jpg", "init_image")

Shape letters: N pictures, H W pixels, C channels.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glide.utils.errors import InputError, warn
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE, as_shown, decode_picture, file_mode

EXPECTED = "a path, a PIL picture, an array [H,W,3] or a tensor [3,H,W] of uint8 or of numbers from 0 to 1, or several"


@dataclass(frozen=True, eq=False)
class Read:
    """A picture that was given in Python, read as its file would be."""

    picture: Image.Image  # RGB or RGBA
    path: str | None
    """The path that it was read from; None where it was in memory."""
    sha256: str  # of its file, or of its pixels where it has none
    grey: bool  # whether it holds greys alone

    def recipe(self, name: str) -> dict[str, Any]:
        """Its entries in a recipe, JSON-able. name: of the argument, "image" or "init"."""
        path_name = "init_image" if name == "init" else name
        return ({path_name: self.path} if self.path else {}) | {f"{name}_sha256": self.sha256}


def read_pictures(value: object, argument: str) -> list[Read]:
    """One picture or several. InputError, which names the argument, for what is no picture."""
    if isinstance(value, list | tuple):
        return [one for part in value for one in read_pictures(part, argument)]
    if isinstance(value, np.ndarray) and value.ndim == 4:
        return [_of_array(one, argument) for one in value]
    if isinstance(value, Tensor) and value.ndim == 4:
        return [_of_tensor(one, argument) for one in value]
    return [_read(value, argument)]


def _read(value: object, argument: str) -> Read:
    if isinstance(value, str | os.PathLike):
        path = os.path.expanduser(os.fsdecode(value))
        data = read_bytes(path, LARGEST_FILE)
        picture, lost = decode_picture(data, path)
        for what in lost:
            warn(f"{path} {what}", stacklevel=3)
        return Read(picture, path, hashlib.sha256(data).hexdigest(), _is_grey(file_mode(data, path)))
    if isinstance(value, Image.Image):
        return _in_memory(value, argument)
    if isinstance(value, np.ndarray):
        return _of_array(value, argument)
    if isinstance(value, Tensor):
        return _of_tensor(value, argument)
    raise InputError(f"got {type(value).__name__} as {argument}, expected {EXPECTED}: convert it")


def _in_memory(picture: Image.Image, argument: str) -> Read:
    shown, lost = as_shown(picture, argument)
    for what in lost:
        warn(f"{argument} {what}", stacklevel=4)
    return Read(shown, None, hashlib.sha256(shown.tobytes()).hexdigest(), _is_grey(picture.mode))


def _is_grey(mode: str) -> bool:
    return mode in ("1", "L", "LA", "La") or mode.startswith("I")


def _of_tensor(x: Tensor, argument: str) -> Read:
    """[H,W] or [C,H,W]."""
    channels_last = x.permute(1, 2, 0) if x.ndim == 3 else x
    try:
        array = (
            channels_last.detach().cpu().float().numpy()
            if x.is_floating_point()
            else channels_last.cpu().numpy()
        )
    except (RuntimeError, TypeError) as error:
        raise InputError(
            f"got a tensor as {argument} that cannot be read ({error}): expected {EXPECTED}"
        ) from error
    return _of_array(array, argument)


def _of_array(array: NDArray[Any], argument: str) -> Read:
    """[H,W], [H,W,C] or, as pictures in NumPy never are but tensors, [C,H,W] where that alone fits."""
    given = "x".join(map(str, array.shape)) or "no size"
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise InputError(f"got {argument} of shape {given}, expected {EXPECTED}: convert it")
    pixels = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return _in_memory(Image.fromarray(np.ascontiguousarray(_to_uint8(pixels, argument))), argument)


def _to_uint8(array: NDArray[Any], argument: str) -> NDArray[np.uint8]:
    """Any numbers that a picture is held in. Floats below 0 are those of a picture from -1 to 1, as models draw it."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return array.astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating) and not np.issubdtype(array.dtype, np.integer):
        raise InputError(f"got {argument} of {array.dtype}, expected {EXPECTED}: convert it")
    low, high = float(array.min()), float(array.max())
    if np.issubdtype(array.dtype, np.integer):
        if low < 0 or high > 255:
            raise InputError(
                f"got {argument} of whole numbers from {low:g} to {high:g}, expected 0 to 255: scale them"
            )
        return array.astype(np.uint8)
    if not (np.isfinite(low) and np.isfinite(high) and low >= -1.0 and high <= 1.0):
        raise InputError(
            f"got {argument} of numbers from {low:g} to {high:g}, expected 0 to 1 (or uint8, 0 to 255): scale them"
        )
    unit = (array.astype(np.float64) + 1) / 2 if low < 0 else array.astype(np.float64)
    return (unit * 255).round().astype(np.uint8)
