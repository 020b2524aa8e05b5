"""A user's picture is read as a viewer shows it, what is lost is said, and originals are never written over."""

import os
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from glide.utils.errors import InputError
from glide.utils.image_files import BrokenImageError, check_output, read_picture
from glide.utils.images import save_png
from support.deep_png import GREY, RAMP, deep_png


def test_plain_pictures_come_as_they_are(tmp_path):
    for name, image in (("rgb.png", Image.fromarray(GREY)), ("grey.png", Image.fromarray(RAMP))):
        image.save(tmp_path / name)
        picture = read_picture(tmp_path / name)
        assert picture.mode == "RGB" and picture.info == {} and np.array_equal(picture, GREY)
    Image.fromarray(GREY).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(tmp_path / "p.png")
    assert np.array_equal(read_picture(tmp_path / "p.png"), GREY)


def test_transparency_is_kept(tmp_path):
    half = Image.new("RGBA", (2, 1), (255, 0, 0, 128))
    half.save(tmp_path / "half.png")
    assert read_picture(tmp_path / "half.png").mode == "RGBA"
    assert np.array_equal(read_picture(tmp_path / "half.png"), half)
    keyed = Image.new("P", (2, 1))
    keyed.putpalette([1, 2, 3, 200, 0, 0])
    keyed.putpixel((1, 0), 1)
    keyed.save(tmp_path / "keyed.png", transparency=0)
    assert np.asarray(read_picture(tmp_path / "keyed.png")).tolist() == [[[1, 2, 3, 0], [200, 0, 0, 255]]]
    Image.fromarray(np.stack([RAMP, RAMP], axis=2), "LA").save(tmp_path / "la.png")
    assert read_picture(tmp_path / "la.png").mode == "RGBA"


def test_a_turned_photo_stands_upright(tmp_path):
    image = Image.new("RGB", (4, 2))
    exif = image.getexif()
    exif[0x112] = 6  # a quarter turn
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_picture(tmp_path / "x.jpg").size == (2, 4)
    corners = Image.fromarray(np.arange(24, dtype=np.uint8).reshape(2, 4, 3))
    for orientation in range(11):
        exif[0x112] = orientation
        corners.save(tmp_path / "x.png", exif=exif)
        with Image.open(tmp_path / "x.png") as opened:
            assert np.array_equal(read_picture(tmp_path / "x.png"), ImageOps.exif_transpose(opened))
    for damaged in (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM", b"nonsense"):
        corners.save(tmp_path / "x.png", exif=damaged)
        assert np.array_equal(read_picture(tmp_path / "x.png"), corners)


def test_losses_are_reported(tmp_path):
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(tmp_path / "grey16.png")
    (tmp_path / "deep.png").write_bytes(deep_png())
    for name in ("grey16.png", "deep.png"):
        with pytest.warns(UserWarning, match=rf"{name} has more than 8 bits"):
            assert np.array_equal(read_picture(tmp_path / name), GREY)
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save(tmp_path / "two.gif", save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match=r"two.gif has 2 frames: only the first"):
        assert read_picture(tmp_path / "two.gif").getpixel((0, 0)) == (255, 0, 0)
    Image.fromarray(GREY).convert("CMYK").save(tmp_path / "inks.tif")
    with pytest.warns(UserWarning, match=r"inks.tif is CMYK"):
        assert np.array_equal(read_picture(tmp_path / "inks.tif"), GREY)


def test_colour_profiles(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(GREY).save(tmp_path / "rgb.png", icc_profile=profile)
    picture = read_picture(tmp_path / "rgb.png")
    assert picture.info == {"icc_profile": profile}
    save_png(tmp_path / "result.png", np.asarray(picture), {"seed": 1}, picture.info["icc_profile"])
    assert read_picture(tmp_path / "result.png").info == {"icc_profile": profile}
    # a profile that is none of CMYK is left aside, and is not carried over to RGB
    Image.fromarray(GREY).convert("CMYK").save(tmp_path / "inks.tif", icc_profile=b"no profile")
    with pytest.warns(UserWarning, match="CMYK"):
        assert read_picture(tmp_path / "inks.tif").info == {}


def test_files_that_are_no_whole_picture_are_refused(tmp_path):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for name in ("cut.png", "cut.jpg"):
        noise.save(tmp_path / name)
        data = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("hello")
    Image.new("F", (2, 2)).save(tmp_path / "float.tif")
    for name in ("cut.png", "cut.jpg", "text.png", "float.tif"):
        with pytest.raises(BrokenImageError, match=rf"{name} is not a readable picture") as error:
            read_picture(tmp_path / name)
        assert "\n" not in str(error.value) and "0x" not in str(error.value)
    for name in ("missing.png", ""):
        with pytest.raises(InputError, match=r"cannot read|is not a regular file"):
            read_picture(tmp_path / name)


def test_a_gigantic_picture_is_refused(tmp_path, monkeypatch):
    Image.new("1", (101, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    for action in ("error", "ignore"):
        with (
            warnings.catch_warnings(),
            pytest.raises(BrokenImageError, match=r"large.png is too large a picture .*pixels"),
        ):
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            read_picture(tmp_path / "large.png")


def test_outputs(tmp_path):
    original = tmp_path / "x.png"
    Image.fromarray(GREY).save(original)
    os.link(original, tmp_path / "linked.png")
    check_output(tmp_path / "new.png", False, [original, "gs://bucket/x.png"])
    for path in (original, tmp_path / "linked.png", tmp_path / "." / "x.png"):
        with pytest.raises(InputError, match="never written over"):
            check_output(path, True, [original])
    with pytest.raises(InputError, match="exists already: give another name, or --overwrite"):
        check_output(original, False)
    check_output(original, True)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="which is a folder"):
        check_output(tmp_path / "folder.png", True)
    with pytest.raises(InputError, match=r"ends in \.png"):
        check_output(tmp_path / "x.jpg", True)
