"""Read a user's picture files safely: as a viewer shows them, or refused in one sentence.

    picture = read_picture("photo.jpg")          # PIL, "RGB", or "RGBA" if anything is transparent
    check_output("large.png", overwrite=False, originals=["photo.jpg"])

The file itself is only ever read. H W pixels.
"""

from __future__ import annotations

import importlib
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from glide.utils.errors import InputError, reason_of, warn
from glide.utils.file_locks import check_free
from glide.utils.filesystem import read_bytes

FORMATS = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
"""All formats that are decoded, by Pillow's names, with their suffixes. By default Pillow tries some forty formats, and
one of them, PostScript, starts another program."""
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
READ = "PNG, JPEG, WebP, BMP, GIF, TIFF or AVIF"  # for messages; users know MPO as JPEG
PLUGINS = ("Png", "Jpeg", "Mpo", "WebP", "Bmp", "Gif", "Tiff", "Avif")
LARGEST_FILE = 2**30  # bytes: more than Pillow's largest safe picture needs uncompressed
SIGNS = {
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "a PDF document",
    b"version https://git-lfs": "a pointer of Git LFS, whose file was not fetched",
    b"<svg": "an SVG drawing",
    b"<?xml": "XML",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"8BPS": "a Photoshop document",
    b"\x00\x00\x00\x0cjP  ": "JPEG 2000",
}
"""First bytes of common files of other formats."""
FROM_16_BITS = ((np.arange(2**16) + 128) // 257).astype(np.uint8)  # 16 bits to 8, rounded
ORIENTATION_KEYS = ("exif", "xmp")  # metadata of a JPEG with its orientation
TURNS: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns a picture of each EXIF orientation upright."""
SIDEWAYS = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Those that exchange width and height."""
WITH_PROFILE = ("RGB", "RGBA", "P", "PA")  # modes whose colour profile is still valid after conversion to RGB


class BrokenImageError(InputError):
    """A file that was read but is not a picture, or a damaged one."""


def read_picture(path: str | Path) -> Image.Image:
    """The picture in a file, local or remote: mode "RGB", or "RGBA" where it has transparency.

    It is turned by its EXIF data. CMYK is converted by its colour profile, if any. Palettes and grey become RGB.
    Warnings name the losses: further frames of an animation, all but 8 bits of a deeper picture, CMYK inks. A colour
    profile of RGB is not applied; `info["icc_profile"]` keeps it for the result.
    InputError if the file cannot be read; BrokenImageError if it is no picture, damaged, truncated, or has more pixels
    than Pillow considers safe (a decompression bomb).
    """
    picture, lost = decode_picture(read_bytes(path, LARGEST_FILE), path)
    for what in lost:
        warn(f"{path} {what}", stacklevel=2)
    return picture


def decode_picture(data: bytes, name: str | Path, least: int = 0) -> tuple[Image.Image, list[str]]:
    """The picture in a file's bytes, as `read_picture`, and its losses; `name` is for the message.

    least: above 0, a picture with sides of at least twice that may be decoded smaller, with sides of at least that:
    JPEG's decoder leaves out the finest frequencies (at a half, a quarter or an eighth of the size), which is faster
    than decoding and averaging them.
    """
    with open_picture(data, name) as image:
        lost = _lost(image)
        if least and image.format == "JPEG":
            image.draft(None, (least, least))
        image.load()
        return _shown(image), lost


def as_shown(picture: Image.Image, name: str = "the picture") -> tuple[Image.Image, list[str]]:
    """A copy of a picture in memory, converted as by `decode_picture`, and its losses.

    InputError for one that cannot be shown, such as one of floating-point numbers, and for one that Pillow has opened
    but not decoded, of a format that is not read from files either.
    """
    with _refusing(name):
        if getattr(picture, "tile", None) and picture.format not in FORMATS:
            raise BrokenImageError(
                f"{name} is a file of {picture.format}: give a {READ} file, or load() it first"
            )
        _check_size(picture)
        lost = _lost(picture)
        return _shown(picture.copy()), lost


@contextmanager
def open_picture(
    data: bytes, name: str | Path, formats: Sequence[str] = tuple(FORMATS)
) -> Iterator[Image.Image]:
    """A context with a picture file of one of these formats, opened but not decoded; no other decoder reads the data.

    Every failure within is a BrokenImageError: data of another format, damage, and more pixels than Pillow considers
    safe.
    """
    with _refusing(name, data), Image.open(io.BytesIO(data), formats=_known(tuple(formats))) as image:
        _check_size(image)
        yield image


def shown_size(data: bytes, name: str | Path) -> tuple[int, int]:
    """Height and width of a picture file, upright, by its header alone; BrokenImageError as `open_picture`."""
    with open_picture(data, name) as image:
        width, height = image.size
        turned = image.format == "JPEG" or any(key in image.info for key in ORIENTATION_KEYS)
        return (width, height) if turned and _turn(image) in SIDEWAYS else (height, width)


def file_mode(data: bytes, name: str | Path) -> str:
    """Pillow's mode of a picture file's pixels, "L" of a grey one; BrokenImageError as `open_picture`."""
    with open_picture(data, name) as image:
        return image.mode


@contextmanager
def _refusing(name: str | Path, data: bytes = b"") -> Iterator[None]:
    """A context that turns Pillow's errors into a BrokenImageError about the picture `name` with bytes `data`."""
    try:
        yield
    except InputError:
        raise
    except UnidentifiedImageError as error:
        raise BrokenImageError(
            f"{name} is not a readable picture ({_kind(data)}): give a {READ} file"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BrokenImageError(f"{name} is too large a picture ({error}): scale it down") from error
    except Exception as error:  # decoders of damaged files raise almost anything
        raise BrokenImageError(
            f"{name} is not a readable picture ({reason_of(error)}): repair or remove it"
        ) from error


def _kind(data: bytes) -> str:
    """The kind of a file of another format, for a message."""
    if not data:
        return "it is empty"
    if data[4:8] == b"ftyp":
        return "it holds HEIC or a film"
    start = data[:256].lstrip()
    return next(
        (f"it holds {what}" for sign, what in SIGNS.items() if start.startswith(sign)),
        "its format is unknown",
    )


@cache
def _known(formats: tuple[str, ...]) -> list[str]:
    """The formats among them that this Pillow reads; only their plug-ins are loaded."""
    for name in PLUGINS:
        with suppress(ImportError):
            importlib.import_module(f"PIL.{name}ImagePlugin")
    return [name for name in formats if name in Image.OPEN]  # MPO is opened as JPEG


def _check_size(image: Image.Image) -> None:
    """DecompressionBombError above Pillow's limit, where Pillow itself only warns."""
    most = Image.MAX_IMAGE_PIXELS
    if most and image.width * image.height > most:
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, at most {most} are read")


def _shown(image: Image.Image) -> Image.Image:
    """A loaded picture turned upright, in RGB or RGBA, with only its colour profile; it may be `image` itself."""
    # only if there is such metadata: looking for it takes time
    if image.format != "JPEG" or any(key in image.info for key in ORIENTATION_KEYS):
        image = _upright(image)
    profile = image.info.get("icc_profile") if image.mode in WITH_PROFILE else None
    picture = _colours(image)
    picture.info = {"icc_profile": profile} if profile else {}
    return picture


def check_output(path: str | Path, overwrite: bool, originals: Sequence[str | Path] = ()) -> None:
    """InputError for an output that is an original, or another existing file unless `overwrite` is true.

    A result is a PNG, and its name must end in .png. Nothing is made or changed.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise InputError(f"got the output {path}, expected a name that ends in .png: results are PNG files")
    check_not_original(path, originals)
    check_free(path, overwrite)


def check_not_original(path: str | Path, originals: Sequence[str | Path]) -> None:
    """InputError if a result would overwrite the picture that it is made from."""
    for original in originals:
        if os.path.exists(path) and os.path.exists(original) and os.path.samefile(path, original):
            raise InputError(
                f"got the output {path}, which is the picture {original} itself, expected another file: originals "
                "are never written over"
            )


def _upright(image: Image.Image) -> Image.Image:
    """The picture turned by its EXIF or XMP data; damaged data are ignored, as by a viewer."""
    turn = _turn(image)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image) -> Image.Transpose | None:
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # the reader raises anything on damaged data
        return None


def _lost(image: Image.Image) -> list[str]:
    """Losses of a file, opened but not decoded, in an 8-bit RGB picture."""
    found = []
    frames = getattr(image, "n_frames", 1)
    if frames > 1 and image.format != "MPO":  # a phone's JPEG with a preview is not an animation
        found.append(f"has {frames} frames: only the first one is used")
    # Pillow keeps the high bytes of deep colours, which only the decoder's arguments show
    deep = image.mode.startswith("I") or any(";16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    if deep:
        found.append("has more than 8 bits a colour: it is reduced to 8")
    if image.mode == "CMYK":
        found.append("is CMYK, inks for print: it is converted to RGB, and colours can differ a little")
    return found


def _colours(image: Image.Image) -> Image.Image:
    """Any mode -> RGB, or RGBA if there is transparency. ValueError for pixels that are no colours."""
    if image.mode == "F":
        raise ValueError("its pixels are floating-point numbers")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion would clip it at 255
        grey = np.asarray(image)
        return Image.fromarray(
            FROM_16_BITS[grey if grey.dtype == np.uint16 else grey.clip(0, 2**16 - 1)]
        ).convert("RGB")
    if image.mode == "CMYK" and (converted := _by_profile(image)) is not None:
        return converted
    mode = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == mode else image.convert(mode)


def _by_profile(image: Image.Image) -> Image.Image | None:
    """CMYK -> RGB by the picture's own colour profile; None if it has no usable one."""
    profile = image.info.get("icc_profile")
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return None
