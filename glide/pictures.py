"""A user's picture file, read with care: as a viewer shows it, or refused in one sentence.

    picture = read_picture("photo.jpg")          # PIL, "RGB", or "RGBA" where anything is transparent
    check_output("large.png", overwrite=False, originals=["photo.jpg"])

The file itself is only ever read. H W pixels.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from glide.errors import InputError, warn
from glide.paths import read_bytes

TURNED_BY = ("exif", "xmp")  # where a JPEG says that it is to be turned
WITH_PROFILE = ("RGB", "RGBA", "P", "PA")  # modes whose colour profile still fits when they are RGB


class BrokenImageError(InputError):
    """A file that was read but is no picture, or a damaged one."""


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file, local or remote: mode "RGB", or "RGBA" where it has transparency.

    It is turned as its EXIF data says. CMYK goes through its colour profile where it carries one. Palettes and grey
    become RGB. What is lost on the way is told by a warning: further frames of an animation, all but 8 bits of a
    deeper picture, CMYK inks. A colour profile of RGB is not applied; `info["icc_profile"]` keeps it for the result.
    InputError if the file cannot be read; BrokenImageError if it is no picture, damaged, cut off, or has more pixels
    than Pillow takes to be safe (a decompression bomb).
    """
    picture, lost = decode_picture(read_bytes(path), path)
    for what in lost:
        warn(f"{path} {what}", stacklevel=2)
    return picture


def decode_picture(data: bytes, name: str | Path, least: int = 0) -> tuple[Image.Image, list[str]]:
    """The picture in a file's bytes, as `read_picture`, and what was lost; `name` is for the message.

    least: over 0, a picture whose sides are at least twice that may come smaller, its sides still at least that:
    JPEG's decoder leaves out the finest frequencies (a half, a fourth or an eighth of the size), which is faster
    than to decode them and average them away.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            most = Image.MAX_IMAGE_PIXELS
            # Pillow itself warns only, up to twice the limit
            if most and image.width * image.height > most:
                raise Image.DecompressionBombError(
                    f"{image.width}x{image.height} pixels, at most {most} are read"
                )
            lost = _lost(image)
            if least and image.format == "JPEG":
                image.draft(None, (least, least))
            image.load()
            if image.format != "JPEG" or any(key in image.info for key in TURNED_BY):
                # in place: a copy takes a tenth of the time that a JPEG takes, and so does to look for nothing
                ImageOps.exif_transpose(image, in_place=True)
            picture = _colours(image)
            profile = image.info.get("icc_profile") if image.mode in WITH_PROFILE else None
    except UnidentifiedImageError as error:
        raise BrokenImageError(
            f"{name} is not a readable picture (of no format that is known): give a PNG, JPEG or the like"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenImageError(f"{name} is too large a picture ({error}): scale it down") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        reason = str(error).split("\n")[0] or type(error).__name__
        raise BrokenImageError(f"{name} is not a readable picture ({reason}): repair or remove it") from error
    picture.info = {"icc_profile": profile} if profile else {}
    return picture, lost


def check_output(path: str | Path, overwrite: bool, originals: Sequence[str | Path] = ()) -> None:
    """InputError if a result may not be written there: over an original, never; over another file, unless asked to.

    A result is a PNG, so its name must end so. Nothing is made or changed.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"got the output {path}, expected a name that ends in .png: results are PNG files")
    if path.is_dir():
        raise InputError(f"got the output {path}, which is a folder, expected a file: add a name to it")
    if not path.exists():
        return
    for original in originals:
        if os.path.exists(original) and os.path.samefile(path, original):
            raise InputError(
                f"got the output {path}, which is the picture {original} itself, expected another file: originals "
                "are never written over"
            )
    if not overwrite:
        raise InputError(f"{path} exists already: give another name, or --overwrite")


def _lost(image: Image.Image) -> list[str]:
    """What of a file, opened but not decoded yet, an 8-bit RGB picture cannot hold."""
    found = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's JPEG with a preview behind it is no animation
        found.append(f"has {frames} frames: only the first one is used")
    # Pillow keeps the high bytes of deep colours and says so in the decoder's arguments alone
    deep = image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if deep:
        found.append("has more than 8 bits a colour: it is reduced to 8")
    if image.mode == "CMYK":
        found.append("is CMYK, inks for print: it is converted to RGB, and colours can differ a little")
    return found


def _colours(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, or RGBA where there is transparency. ValueError for pixels that are no colours."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = np.clip(np.asarray(image, dtype=np.float64) / 257, 0, 255).round().astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    if image.mode == "CMYK" and (converted := _by_profile(image)) is not None:
        return converted
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _by_profile(image: Image.Image) -> Image.Image | None:
    """CMYK -> RGB by the picture's own colour profile; None where it has none that can be used."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
