"""The command lines of the second stage: a cascade from captions, pictures of a user enlarged, and bad input."""

import dataclasses
import runpy
import shlex
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
import upsample as script  # scripts/upsample.py
from conftest import CAPTIONS, randomised
from PIL import Image
from sample_script import ROOT, Capture, call, pngs, refused

from glide.checkpoint import load_model, save_model
from glide.cli import run
from glide.images import load_image, read_recipe
from glide.model import Model
from guidance.sample import next_number
from upsampler import parts

SMALL = ("--steps", "2", "--upsample-steps", "2")


def upsample(*argv: object) -> int:
    """Exit code of scripts/upsample.py, called in this process."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


def noise(height: int, width: int, channels: int = 3) -> Image.Image:
    values = np.random.default_rng(height).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return Image.fromarray(values)


@pytest.fixture
def cascade(text_folder: Path, upsampler_folder: Path) -> list[object]:
    return ["--model", text_folder, "--size", 32, "--upsampler", upsampler_folder, *SMALL]


# --- sample.py --size -----------------------------------------------------------------------------------------------


def test_both_pictures_are_kept_with_their_recipes(
    cascade: list[object], tmp_path: Path, capsys: Capture
) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[0], "--prompt", CAPTIONS[1], "--seed", 5, "--grid", "--gif"]
    assert call(*flags, "--upsample-temp", 0.997, "--upsample-noise", 0.1, "--out", tmp_path) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0] == f"2 pictures in {tmp_path}: 00000.png to 00001.png"
    assert "drawing 2 pictures: 100%" in err and "enlarging 2 pictures: 100%" in err and "4/4" in err
    expected = ["00000-8.png", "00000.png", "00001-8.png", "00001.png", "grid-00000.gif", "grid-00000.png"]
    assert pngs(tmp_path) == expected and next_number(tmp_path) == 2
    assert load_image(tmp_path / "00000.png").shape == (32, 32, 3)
    assert load_image(tmp_path / "00000-8.png").shape == (8, 8, 3)
    assert load_image(tmp_path / "grid-00000.png").shape == (34 + 2, 2 * 34 + 2, 3)
    small, large = read_recipe(tmp_path / "00001-8.png"), read_recipe(tmp_path / "00001.png")
    stage = large.pop("upsampler")
    assert large.pop("size") == 32 and small == large and small["seed"] == 6
    assert stage.items() >= {"respacing": "2", "temperature": 0.997, "noise": 0.1, "guidance": "none"}.items()
    assert len(stage["weights"]) == 16 and not {"seed", "prompt", "device"} & set(stage)


def test_the_small_pictures_are_those_of_a_run_without_a_second_stage(
    cascade: list[object], tmp_path: Path
) -> None:
    assert call(*cascade, "--prompt", CAPTIONS[0], "--out", tmp_path / "a") == 0
    assert call(*cascade[:2], "--steps", 2, "--prompt", CAPTIONS[0], "--out", tmp_path / "b") == 0
    assert (tmp_path / "a/00000-8.png").read_bytes() == (tmp_path / "b/00000.png").read_bytes()
    assert call(*cascade[:3], 8, "--steps", 2, "--prompt", CAPTIONS[0], "--out", tmp_path / "c") == 0
    assert pngs(tmp_path / "c") == ["00000.png"]


def test_like_repeats_both_stages(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[1], "--num-samples", 3, "--upsample-guidance", "cfg:2@10-90"]
    flags += ["--upsample-sampler", "ddpm", "--upsample-noise", 0.2, "--upsample-temp", 0.9, "--grid"]
    assert call(*flags, "--out", tmp_path / "a") == 0
    assert call("--like", tmp_path / "a/00002.png", "--out", tmp_path / "b") == 0
    assert pngs(tmp_path / "b") == ["00000-8.png", "00000.png"]
    for name in ("00000-8.png", "00000.png"):
        original = tmp_path / "a" / name.replace("00000", "00002")
        assert (tmp_path / "b" / name).read_bytes() == original.read_bytes()
    assert call("--like", tmp_path / "a/00002-8.png", "--out", tmp_path / "c") == 0
    assert pngs(tmp_path / "c") == ["00000.png"]  # of the small one, the first stage alone
    assert call("--like", tmp_path / "a/grid-00000.png", "--out", tmp_path / "d") == 0
    assert (tmp_path / "d/grid-00000.png").read_bytes() == (tmp_path / "a/grid-00000.png").read_bytes()


def test_like_with_other_flags(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[1], "--upsample-guidance", "cfg:2", "--negative", CAPTIONS[0]]
    assert call(*flags, "--out", tmp_path) == 0
    change = ["--upsample-steps", 3, "--upsample-guidance", "cfg:1", "--upsample-temp", 0.5]
    assert call("--like", tmp_path / "00000.png", *change, "--out", tmp_path) == 0
    one, two = (read_recipe(tmp_path / name)["upsampler"] for name in ("00000.png", "00001.png"))
    assert {name for name in two if one.get(name) != two[name]} == {
        "respacing",
        "steps",
        "scale",
        "temperature",
    }
    assert call("--like", tmp_path / "00000.png", "--size", 8, "--out", tmp_path / "s") == 0
    assert (tmp_path / "s/00000.png").read_bytes() == (tmp_path / "00000-8.png").read_bytes()


def test_whatever_the_batch_size(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[0], "--num-samples", 3, "--call-size", 2]
    for size in (1, 16):
        assert call(*flags, "--batch-size", size, "--out", tmp_path / str(size)) == 0
    for name in pngs(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "16" / name).read_bytes()


def test_the_embedded_upsampler_is_that_of_the_models_name(
    text_folder: Path,
    upsampler_model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    flags = ["--model", text_folder, "--size", 32, *SMALL, "--prompt", CAPTIONS[0], "--out", tmp_path / "o"]
    refused(
        call(*flags),
        capsys,
        "without an embedded upsampler, expected 8, or the name of one: give --upsampler",
    )
    places = (tmp_path / "models",)
    monkeypatch.setattr(parts, "UPSAMPLING", dataclasses.replace(parts.UPSAMPLING, places=places))
    save_model(places[0] / text_folder.name, upsampler_model)
    assert call(*flags) == 0
    assert read_recipe(tmp_path / "o/00000.png")["upsampler"]["model"] == text_folder.name
    assert call("--like", tmp_path / "o/00000.png", "--out", tmp_path / "o") == 0
    assert (tmp_path / "o/00001.png").read_bytes() == (tmp_path / "o/00000.png").read_bytes()
    # the weights are those that enlarged it, or the run is refused
    save_model(
        places[0] / text_folder.name, randomised(Model(upsampler_model.config, upsampler_model.tokenizer), 9)
    )
    capsys.readouterr()
    refused(call("--like", tmp_path / "o/00000.png", "--out", tmp_path / "o"), capsys, "has other weights")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--size 64", "--size 64, expected 8 or 32"),
        ("--size 32 --upsample-steps 2 --upsample-respacing fast27", "expected one of them"),
        ("--size 32 --upsample-noise 1", "--upsample-noise 1, expected 0 to below 1"),
        ("--size 32 --upsample-temp nan", "temperature nan"),
        ("--size 32 --upsample-guidance magic", "the guidance 'magic'"),
        ("--size 32 --upsample-guidance clip:5", "got a CLIP of 64x64 pixels for a model of 32x32"),
        ("--size 32 --upsample-steps 0", "0 steps"),
        ("--size 32 --upsample-steps 5000", "got 5000 steps, expected 1 to 1000"),
        ("--size 32 --upsample-sampler magic", "the sampler 'magic'"),
        ("--size 32 --upsample-eta 2", "eta 2"),
        ("--upsample-temp 0.9", "--upsample-temp without --size"),
    ],
)
def test_bad_flags(
    text_folder: Path, upsampler_folder: Path, tmp_path: Path, capsys: Capture, flags: str, said: str
) -> None:
    upsampler = ["--upsampler", upsampler_folder] if "--size" in flags else []
    code = call(
        "--model", text_folder, "--prompt", CAPTIONS[0], "--out", tmp_path / "o", *upsampler, *flags.split()
    )
    refused(code, capsys, said)
    assert not (tmp_path / "o").exists()


def test_a_base_model_is_no_upsampler(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = ["--model", text_folder, "--upsampler", text_folder, "--size", 32, "--out", tmp_path / "o"]
    refused(call(*flags), capsys, "draws and does not enlarge, expected an upsampler")


# --- upsample.py ----------------------------------------------------------------------------------------------------


def test_a_picture_of_any_size(upsampler_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    source, result = tmp_path / "in.jpg", tmp_path / "out" / "large.png"
    noise(9, 21).save(source)
    before = source.read_bytes()
    flags = [source, "--model", upsampler_folder, "--steps", 2, "--out", result]
    assert upsample(*flags, "--prompt", CAPTIONS[0], "--temp", 0.997, "--seed", 3) == 0
    out, err = capsys.readouterr()
    assert out == f"1 picture in {tmp_path / 'out'}: large.png\n" and "enlarging 1 picture: 100%" in err
    assert load_image(result).shape == (36, 84, 3) and source.read_bytes() == before
    recipe = read_recipe(result)
    assert recipe["enlarged"]["picture"] == "in.jpg" and recipe["enlarged"]["size"] == [21, 9]
    expected = {"seed": 3, "prompt": CAPTIONS[0], "temperature": 0.997, "noise": 0.0, "scale": 4, "steps": 2}
    assert expected.items() <= recipe.items()
    refused(call("--like", result, "--out", tmp_path), capsys, "was not drawn but enlarged")
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


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--steps 2 --respacing 2", "--steps and --respacing"),
        ("--steps 0", "0 steps"),
        ("--respacing ten", "'ten', expected a count"),
        ("--noise 1", "--noise 1, expected 0 to below 1"),
        ("--temp -1", "temperature -1"),
        ("--seed -1", "--seed -1"),
        ("--label 3", "without classes"),
        ("--guidance magic", "the guidance 'magic'"),
        ("--guidance cfg", "empty caption"),
        ("--negative red", "belongs to a guidance that was not asked for"),
        ("--model nowhere", "there is no model 'nowhere'"),
        ("--dtype int8", "expected float32 or bfloat16"),
    ],
)
def test_bad_upsample_flags(
    upsampler_folder: Path, tmp_path: Path, capsys: Capture, flags: str, said: str
) -> None:
    noise(8, 8).save(tmp_path / "in.png")
    model = [] if "--model" in flags else ["--model", upsampler_folder]
    refused(upsample(tmp_path / "in.png", *model, "--out", tmp_path / "o", *flags.split()), capsys, said)
    assert not (tmp_path / "o").exists()


@pytest.mark.filterwarnings("default:the caption is longer")
def test_the_examples_of_upsample_run(
    upsampler_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawings").mkdir()
    noise(8, 8).save("drawing.png")
    noise(8, 8).save("drawings/a.png")
    examples = [line.strip() for line in script.__doc__.splitlines() if line.startswith("    python")]
    assert len(examples) == 3
    for example in examples:
        flags = shlex.split(example)[2:]
        steps = [] if "--steps" in flags else ["--steps", "2"]
        assert upsample(*flags, *steps, "--model", upsampler_folder) == 0, example
    assert load_image("outputs/enlarged/drawing.png").shape == (32, 32, 3)


# --- the other scripts ----------------------------------------------------------------------------------------------


def script_runs(monkeypatch: pytest.MonkeyPatch, name: str, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    return int(end.value.code or 0)


def test_train_and_measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    flags = "--preset tiny-upsampler --crop-size 16 --steps 2 --batch-size 2 --log-every 1 --save-every 2"
    flags += (
        " --sample-every 2 --noise 0 0.2 --blur 0.5 --jpeg 50 --reduce rendered area bicubic --dtype float32"
    )
    assert script_runs(monkeypatch, "train_upsampler.py", "--out", tmp_path / "run", *flags.split()) == 0
    assert load_model(tmp_path / "run").config.low_res_noise
    assert (tmp_path / "run/samples/0000002.png").exists()
    capsys.readouterr()
    measure = ["--model", tmp_path / "run", "--pictures", 2, "--respacing", "2", "--out", tmp_path / "m"]
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure) == 0
    assert "upsampler  PSNR" in capsys.readouterr().out
    measure += ["--reference-steps", 2, "--sampler"]
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "dpmpp-2m") == 0
    assert "to 2 steps PSNR 120.00 dB" in capsys.readouterr().out  # the same twice
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "ddpm", "--spacing", "karras") == 0
    assert "to 2 steps PSNR 120" not in (said := capsys.readouterr().out) and "to 2 steps PSNR" in said
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "best") == 2
    assert "'best'" in capsys.readouterr().err
    assert pngs(tmp_path / "m") == ["psnr.json", "side-by-side.png"]


def test_the_oracle_judges_what_is_enlarged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A base model of 16x16, which is as small as the oracle reads, and an upsampler of that."""
    from glide.model import PRESETS
    from glide.shapes import captions_for_tokenizer
    from glide.tokenizer import Tokenizer
    from upsampler.presets import UPSAMPLERS

    tokenizer = Tokenizer.train(captions_for_tokenizer(), 512, 24)
    for name, config in (("base", PRESETS["tiny"]), ("upsampler", UPSAMPLERS["tiny-upsampler"])):
        assert config.text is not None
        text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab)
        unet = config.unet if name == "base" else dataclasses.replace(config.unet, image_size=64)
        model = Model(dataclasses.replace(config, text=text, unet=unet), tokenizer)
        save_model(tmp_path / name, randomised(model, 1))
    flags = ["--model", tmp_path / "base", "--captions", 3, "--scales", 1, "--steps", 2, "--dtype", "float32"]
    flags += ["--upsampler", tmp_path / "upsampler", "--upsample-respacing", "2", "--out", tmp_path / "o"]
    assert script_runs(monkeypatch, "evaluate.py", *flags) == 0
    said = capsys.readouterr().out
    assert "| cfg 1 |" in said and "| cfg 1 at 64 |" in said
    assert load_image(tmp_path / "o/cfg-1-at-64.png").shape[0] == 68
