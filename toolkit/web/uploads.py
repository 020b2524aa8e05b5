"""Pictures of strangers, read by the project's own reader, with a bound on their pixels.

H W pixels, C channels.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from glide.utils.errors import InputError
from glide.utils.image_files import BrokenImageError, decode_picture, file_mode, open_picture
from glide.utils.images import on_white, png_bytes, recipe_in
from toolkit.pipelines.inpaint_original import Original
from toolkit.pipelines.inpaint_region import Bytes
from toolkit.web.picture_store import Stored

MOST_PIXELS = 40_000_000
MEDIA_TYPES = {
    "PNG": "image/png",
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",
    "WEBP": "image/webp",
    "BMP": "image/bmp",
    "GIF": "image/gif",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
}


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture of the store, decoded."""

    picture: Image.Image  # RGB or RGBA
    name: str
    sha256: str
    grey: bool

    @property
    def width(self) -> int:
        return self.picture.width

    @property
    def height(self) -> int:
        return self.picture.height

    @property
    def pixels(self) -> Bytes:
        """uint8 [H,W,C], C of 3 or 4."""
        return np.array(self.picture)

    @property
    def colours(self) -> Bytes:
        """uint8 [H,W,3]; colours under transparency as they are."""
        return np.array(self.picture.convert("RGB"))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the pixels."""
        return hashlib.sha256(self.picture.tobytes()).hexdigest()[:16]

    @property
    def original(self) -> Original:
        """The same for inpainting."""
        return Original(self.picture, self.grey, self.sha256)

    @property
    def shown(self) -> Bytes:
        """uint8 [H,W,3], on white."""
        return np.asarray(on_white(self.picture))


def check_upload(data: bytes, name: str) -> str:
    """The media type of a picture's file. BrokenImageError for no picture, or one of too many pixels; no pixel is
    decoded before that is known."""
    with open_picture(data, name) as image:
        if image.width * image.height > MOST_PIXELS:
            raise BrokenImageError(
                f"got {name} of {image.width}x{image.height} pixels, expected at most {MOST_PIXELS // 10**6} million: "
                "scale it down"
            )
        return MEDIA_TYPES.get(str(image.format), "application/octet-stream")


def decoded(stored: Stored) -> Decoded:
    """InputError as `check_upload`, and for a damaged one."""
    check_upload(stored.data, stored.name)
    picture, _ = decode_picture(stored.data, stored.name)
    mode = file_mode(stored.data, stored.name)
    grey = mode in ("1", "L", "LA", "La") or mode.startswith("I")
    return Decoded(picture, stored.name, stored.sha256, grey)


def read_upload(data: bytes, name: str) -> tuple[Stored, dict[str, Any]]:
    """A stranger's file as it is stored, and what the page needs of it: size, losses, transparency, recipe.

    InputError as `decoded`.
    """
    stored = Stored(data, check_upload(data, name), name)
    picture, lost = decode_picture(data, name)
    found: dict[str, Any] = {"name": name, "width": picture.width, "height": picture.height}
    found |= {"transparent": picture.mode == "RGBA", "notes": [f"{name} {what}" for what in lost]}
    try:
        recipe: dict[str, Any] | None = recipe_in(data, name)
    except InputError:
        recipe = None
    return stored, found | {"recipe": recipe}


def mask_for(data: bytes, name: str) -> Stored:
    """A mask of the images interface as one of ours: transparent pixels are painted; without any, white ones.

    InputError as `decoded`.
    """
    stored = Stored(data, check_upload(data, name), name)
    picture = decoded(stored).picture
    if picture.mode != "RGBA":
        return stored
    painted = picture.getchannel("A").point(lambda alpha: 255 if alpha < 128 else 0)
    return Stored(png_bytes(painted), "image/png", name)
