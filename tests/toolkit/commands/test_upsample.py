"""scripts/upsample.py: pictures of a user enlarged, and bad input."""

import shlex
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import upsample as script  # scripts/upsample.py
from PIL import Image

from glide.utils.cli import run
from glide.utils.images import load_image, read_recipe
from support.models import CAPTIONS
from support.sample_script import Capture, call, refused
from toolkit.commands import upsample_flags


def upsample(*argv: object) -> int:
    """Exit code of scripts/upsample.py, called in this process."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.mark.slow
def test_a_picture_of_any_size(upsampler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    source, result = tmp_path / "in.jpg", tmp_path / "out" / "large.png"
    noise(9, 21).save(source)
    before = source.read_bytes()
    flags = [source, "--model", upsampler_folder, "--steps", 2, "--out", result]
    assert upsample(*flags, "--prompt", CAPTIONS[0], "--temp", 0.997, "--seed", 3) == 0
    out, err = capsys.readouterr()
    assert out == f"1 picture in {tmp_path / 'out'}: large.png\n" and "error" not in err
    assert load_image(result).shape == (36, 84, 3) and source.read_bytes() == before
    recipe = read_recipe(result)
    assert recipe["enlarged"]["picture"] == "in.jpg" and recipe["enlarged"]["size"] == [21, 9]
    expected = {"seed": 3, "prompt": CAPTIONS[0], "temperature": 0.997, "noise": 0.0, "scale": 4, "steps": 2}
    assert expected.items() <= recipe.items()
    refused(call("--trust-recipe", "--like", result, "--out", tmp_path), capsys, "was not drawn but enlarged")
    refused(upsample(*flags), capsys, "exists already: give another name, or --overwrite")
    first = result.read_bytes()
    assert upsample(*flags, "--overwrite", "--prompt", CAPTIONS[0], "--temp", 0.997, "--seed", 3) == 0
    assert result.read_bytes() == first


def test_a_folder(upsampler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    noise(8, 8).save(source / "b.png")
    noise(4, 8).save(source / "a.gif")
    (source / "b.txt").write_text(f"{CAPTIONS[2]}\n")
    (source / "notes.md").write_text("not a picture")
    assert upsample(source, "--model", upsampler_folder, "--respacing", "2", "--seed", 4, "--out", out) == 0
    assert capsys.readouterr().out == f"2 pictures in {out}: a.png, b.png\n"
    recipes = [read_recipe(out / name) for name in ("a.png", "b.png")]
    assert [(recipe["prompt"], recipe["seed"]) for recipe in recipes] == [("", 4), (CAPTIONS[2], 5)]
    # the second one by itself is the same picture
    flags = ["--model", upsampler_folder, "--steps", 2, "--prompt", CAPTIONS[2], "--seed", 5]
    assert upsample(source / "b.png", *flags, "--out", tmp_path / "one") == 0
    assert torch.equal(load_image(tmp_path / "one/b.png"), load_image(out / "b.png"))


def test_transparency_and_colour_profiles_stay(upsampler_folder: Path, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image = noise(8, 8, 4)
    image.save(tmp_path / "in.png", icc_profile=profile)
    assert (
        upsample(tmp_path / "in.png", "--model", upsampler_folder, "--steps", 2, "--out", tmp_path / "o") == 0
    )
    with Image.open(tmp_path / "o/in.png") as result:
        assert (result.mode, result.size) == ("RGBA", (32, 32)) and result.info["icc_profile"] == profile
        alpha = image.getchannel("A").resize((32, 32), Image.Resampling.BICUBIC)
        assert np.array_equal(result.getchannel("A"), alpha)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:.*x\\.")
def test_odd_pictures_are_enlarged_as_a_viewer_shows_them(
    upsampler_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    ramp = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    grey = Image.fromarray(np.repeat(ramp[..., None], 3, axis=2))
    flags = ["--model", upsampler_folder, "--steps", 2, "--overwrite", "--out", tmp_path / "o"]

    def enlarged(name: str) -> tuple[torch.Tensor, str]:
        assert upsample(tmp_path / name, *flags) == 0
        return load_image(tmp_path / "o/x.png"), capsys.readouterr().err

    grey.save(tmp_path / "x.png")
    plain, said = enlarged("x.png")
    assert "warning" not in said
    grey.convert("CMYK").save(tmp_path / "x.tif")
    Image.fromarray(ramp.astype(np.uint16) * 257).save(tmp_path / "x.ppm.png")
    palette = grey.convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    palette.save(tmp_path / "x.bmp")
    turned = grey.transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x112] = 6
    turned.save(tmp_path / "x.webp", exif=exif, lossless=True)
    palette.save(tmp_path / "x.gif", save_all=True, append_images=[Image.new("P", (8, 8))])
    for name, warned in (("x.tif", "is CMYK"), ("x.bmp", ""), ("x.webp", ""), ("x.gif", "has 2 frames")):
        pixels, said = enlarged(name)
        assert torch.equal(pixels, plain), name
        assert (f"warning: {tmp_path / name} {warned}" in said) if warned else ("warning" not in said)
    (tmp_path / "x.ppm.png").rename(tmp_path / "x.png")
    pixels, said = enlarged("x.png")
    assert torch.equal(pixels, plain) and "more than 8 bits a colour" in said


@pytest.mark.slow
def test_pictures_that_cannot_be_enlarged(
    upsampler_folder: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def says(said: str, source: Path, *flags: object) -> None:
        refused(upsample(source, "--model", upsampler_folder, "--out", tmp_path / "o", *flags), capsys, said)
        assert not (tmp_path / "o").exists()

    noise(32, 32).save(tmp_path / "cut.png")
    data = (tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1100)
    noise(40, 40).save(tmp_path / "large.png")
    noise(20, 20).save(tmp_path / "enlarges.png")
    (tmp_path / "bars").write_bytes(zlib.compress(b"hello"))

    for name, said in (
        ("missing.png", "cannot read"),
        ("cut.png", "is not a readable picture"),
        ("text.png", "is not a readable picture"),
        ("bars", "is not a readable picture"),
        ("large.png", "is too large a picture"),
        ("enlarges.png", "enlarged 4 times has more than 1100"),
        ("empty", "holds no pictures"),
    ):
        says(said, tmp_path / name)


def test_outputs_that_cannot_be_written(upsampler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.png", "a.gif", "b.png"):
        noise(8, 8).save(tmp_path / "in" / name)
    original = (tmp_path / "in/b.png").read_bytes()
    flags = ["--model", upsampler_folder, "--steps", 2]
    for said, *more in (
        ("never written over", tmp_path / "in/b.png", "--out", tmp_path / "in/b.png", "--overwrite"),
        ("never written over", tmp_path / "in/b.png", "--out", tmp_path / "in", "--overwrite"),
        ("would both be written to", tmp_path / "in", "--out", tmp_path / "o"),
        ("for a folder of pictures, expected a folder", tmp_path / "in", "--out", tmp_path / "o.png"),
    ):
        refused(upsample(*more, *flags), capsys, said)
    assert (tmp_path / "in/b.png").read_bytes() == original and not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--steps 2 --respacing 2", "--steps and --respacing"),
        ("--steps 0", "--steps 0, expected a whole number of at least 1"),
        ("--respacing ten", "'ten', expected a count"),
        ("--noise 1", "--noise 1.0, expected a finite number from 0 and below 1"),
        ("--temp -1", "--temp -1.0, expected a finite number from 0"),
        ("--seed -1", "--seed -1"),
        ("--label 3", "without classes"),
        ("--guidance magic", "the guidance 'magic'"),
        ("--guidance cfg", "empty caption"),
        ("--negative red", "belongs to a guidance that was not asked for"),
        ("--model nowhere", "there is no model 'nowhere'"),
        ("--dtype int8", "expected auto or float32 or bfloat16"),
    ],
)
def test_bad_upsample_flags(
    upsampler_folder: Path, tmp_path: Path, capsys: Capture, flags: str, said: str
) -> None:
    noise(8, 8).save(tmp_path / "in.png")
    model = [] if "--model" in flags else ["--model", upsampler_folder]
    refused(upsample(tmp_path / "in.png", *model, "--out", tmp_path / "o", *flags.split()), capsys, said)
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the caption is longer")
def test_the_examples_of_upsample_run(
    upsampler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawings").mkdir()
    noise(8, 8).save("drawing.png")
    noise(8, 8).save("drawings/a.png")
    examples = [
        line.strip() for line in (upsample_flags.__doc__ or "").splitlines() if line.startswith("    python")
    ]
    assert len(examples) == 4
    noise(8, 8).save("drawings/b.png")
    for example in examples:
        flags = shlex.split(example)[2:]
        steps = [] if "--steps" in flags else ["--steps", "2"]
        assert upsample(*flags, *steps, "--model", upsampler_folder) == 0, example
    assert load_image("outputs/enlarged/drawing.png").shape == (32, 32, 3)


def test_parts_of_a_folder_are_those_of_one_run(
    upsampler_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    source, out, parts = tmp_path / "in", tmp_path / "out", tmp_path / "parts"
    source.mkdir()
    for i in range(5):
        noise(8 + i, 8).save(source / f"{i}.png")
    flags = [source, "--model", upsampler_folder, "--steps", 2, "--seed", 7]
    assert upsample(*flags, "--out", out) == 0
    capsys.readouterr()
    for part in ("2/2", "1/2"):
        assert upsample(*flags, "--out", parts, "--part", part) == 0
    names = [f"{i}.png" for i in range(5)]
    assert [(out / name).read_bytes() for name in names] == [(parts / name).read_bytes() for name in names]
    (parts / "3.png").unlink()
    times = {name: (parts / name).stat().st_mtime_ns for name in names if name != "3.png"}
    capsys.readouterr()
    assert upsample(*flags, "--out", parts, "--part", "2/2") == 0
    assert capsys.readouterr().out.startswith("part 2/2: 1 of 3 pictures to enlarge, the others are there")
    assert (parts / "3.png").read_bytes() == (out / "3.png").read_bytes()
    assert times == {name: (parts / name).stat().st_mtime_ns for name in times}
    assert upsample(*flags, "--out", parts, "--part", "2/2") == 0
    assert capsys.readouterr().out.startswith("part 2/2: 0 of 3")
    refused(
        upsample(*flags, "--out", parts, "--part", "1/2", "--steps", 1), capsys, "no result of this command"
    )
    refused(upsample(*flags, "--out", parts, "--part", "1/2", "--overwrite"), capsys, "leave one out")
    refused(upsample(*flags, "--out", parts, "--part", "3/2"), capsys, "expected I/N")
    refused(upsample(*flags, "--out", tmp_path / "x", "--part", "1/9"), capsys, "in which there is none")
    refused(upsample(source / "0.png", *flags[1:], "--part", "1/2"), capsys, "expected a folder")
