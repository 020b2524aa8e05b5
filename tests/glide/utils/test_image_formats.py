"""Only the formats that are meant are decoded, whatever a file's name says, and by one place of the tree."""

import io
import re
import subprocess

import numpy as np
import pytest
from PIL import Image, features

from glide.utils.errors import InputError
from glide.utils.image_files import (
    SUFFIXES,
    BrokenImageError,
    as_shown,
    decode_picture,
    open_picture,
    read_picture,
)
from glide.utils.images import load_image, read_recipe
from support.deep_png import deep_png
from support.paths import ROOT
from toolkit.pipelines.inpaint_original import read_original
from toolkit.pipelines.mask_files import mask_of_file

COLOURS = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8))
POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


def encoded(picture: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "MPO", "AVIF"])
def test_these_formats_are_read_under_any_name(kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow was built without AVIF")
    picture, lost = decode_picture(encoded(COLOURS, kind), "x.bin")
    assert picture.size == COLOURS.size and picture.mode == "RGB" and lost == []


@pytest.mark.parametrize("kind", ["EPS", "PDF", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "SGI", "MSP"])
def test_no_other_decoder_is_started(kind, tmp_path, monkeypatch):
    def started(*args, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    try:
        data = encoded(COLOURS.convert("1") if kind == "MSP" else COLOURS, kind)
    except OSError:  # built without it; the file need not be whole
        data = b"\x00\x00\x00\x0cjP  \r\n\x87\n"
    (tmp_path / "x.png").write_bytes(data)
    readers = (read_picture, load_image, read_original, lambda path: mask_of_file(path, (6, 8)))
    for read in readers:
        with pytest.raises(BrokenImageError, match=r"x\.png is not a readable picture .*give a PNG, JPEG"):
            read(str(tmp_path / "x.png"))
    with pytest.raises(BrokenImageError, match="is not a PNG"):
        read_recipe(tmp_path / "x.png")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (POSTSCRIPT, "it holds PostScript"),
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0\x18ftypheic", "it holds HEIC"),
        (b"hello", "its format is unknown"),
    ],
)
def test_the_kind_of_another_file_is_named(data, said):
    with pytest.raises(BrokenImageError, match=said):
        decode_picture(data, "x.png")


def test_a_picture_in_memory_is_taken_as_its_file_would_be():
    deep = (np.arange(64, dtype=np.uint16) * 1024).reshape(8, 8)
    turned = COLOURS.copy()
    exif = turned.getexif()
    exif[0x112] = 6
    for picture, options in ((Image.fromarray(deep), {}), (turned, {"exif": exif})):
        data = encoded(picture, "PNG", **options)
        with Image.open(io.BytesIO(data)) as opened:
            shown, lost = as_shown(opened)
        expected, lost_of_file = decode_picture(data, "x.png")
        assert np.array_equal(shown, expected) and shown.mode == expected.mode and lost == lost_of_file
        assert picture.size == (8, 8) or shown.size == picture.size[::-1]
    with Image.open(io.BytesIO(deep_png())) as opened:
        assert as_shown(opened)[1] == ["has more than 8 bits a colour: it is reduced to 8"]
    for foreign in ("PPM", "TGA"):
        with Image.open(io.BytesIO(encoded(COLOURS, foreign))) as opened:
            with pytest.raises(InputError, match=rf"the picture is a file of {foreign}"):
                as_shown(opened)
            opened.load()
            assert np.array_equal(as_shown(opened)[0], COLOURS)
    unchanged = COLOURS.copy()
    assert as_shown(unchanged)[0] is not unchanged
    with pytest.raises(InputError, match=r"the picture is not a readable picture .*floating-point"):
        as_shown(Image.new("F", (2, 2)))


def test_every_deep_grey_is_rounded_to_the_nearest():
    deep = Image.fromarray(np.arange(2**16, dtype=np.uint16).reshape(256, 256))
    expected = (np.arange(2**16) / 257).round().reshape(256, 256)
    assert np.array_equal(np.asarray(as_shown(deep)[0])[..., 0], expected)
    wide = Image.fromarray(np.array([[-5, 0, 257, 65535, 10**6]], np.int32))
    assert np.asarray(as_shown(wide)[0])[0, :, 0].tolist() == [0, 0, 1, 255, 255]


def test_damage_behind_the_first_bytes_is_a_broken_picture():
    data = encoded(COLOURS, "PNG")
    with pytest.raises(BrokenImageError), open_picture(data[:60], "x.png") as image:
        image.load()


def test_one_place_opens_pictures():
    """Every other file hands its bytes to glide/utils/image_files.py, which alone says what is decoded."""
    tree = [
        path
        for part in ("glide", "guidance", "upsampler", "scripts", "examples")
        for path in (ROOT / part).rglob("*.py")
    ]
    opening = [
        path.relative_to(ROOT).as_posix()
        for path in tree
        if re.search(r"\bImage\.open\(", path.read_text("utf-8"))
    ]
    assert opening == ["glide/utils/image_files.py"] and {".avif", ".jfif", ".png"} <= set(SUFFIXES)
