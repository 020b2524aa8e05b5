"""The picture that is inpainted: read once, and given back with what was painted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from glide.utils.errors import warn
from glide.utils.filesystem import read_bytes
from glide.utils.image_files import LARGEST_FILE, decode_picture, file_mode
from glide.utils.images import on_white
from toolkit.pipelines.inpaint_region import Bytes, Unknown


@dataclass(frozen=True)
class Original:
    """A picture as it was read."""

    picture: Image.Image  # RGB or RGBA
    grey: bool
    """True if its file holds greys alone; then so does the result."""
    sha256: str

    @property
    def shown(self) -> Bytes:
        """uint8 [H,W,3]; what is transparent lies on white."""
        return np.asarray(on_white(self.picture))

    def with_painted(self, rgb: Bytes, unknown: Unknown) -> Bytes:
        """uint8 [H,W,C]: the pixels of `rgb` [H,W,3] where `unknown`, opaque; all others as they were."""
        result = np.array(self.picture)
        result[unknown, :3] = rgb[unknown]
        if result.shape[2] == 4:
            result[unknown, 3] = 255
        if not self.grey:
            return result
        luma = np.asarray(Image.fromarray(np.ascontiguousarray(result[..., :3])).convert("L"))
        return np.concatenate([luma[..., None], result[..., 3:]], axis=2)


def read_original(path: str) -> Original:
    """InputError and warnings as `glide.utils.image_files.read_picture`."""
    data = read_bytes(path, LARGEST_FILE)
    picture, lost = decode_picture(data, path)
    for what in lost:
        warn(f"{path} {what}", stacklevel=2)
    mode = file_mode(data, path)
    grey = mode in ("1", "L", "LA", "La") or mode.startswith("I")
    return Original(picture, grey, hashlib.sha256(data).hexdigest())
