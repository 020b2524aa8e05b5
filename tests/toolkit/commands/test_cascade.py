"""The command lines of the second stage: a cascade from captions, bad input, and what trains and measures it."""

import dataclasses
import runpy
import sys
from pathlib import Path

import pytest

from glide.checkpoints.load import load_model, save_model
from glide.networks.model import Model
from glide.utils.file_locks import next_number
from glide.utils.images import load_image, read_recipe
from support.models import CAPTIONS, randomised
from support.sample_script import ROOT, Capture, call, pngs, refused
from toolkit.commands import second_stage
from toolkit.pipelines import upscale

SMALL = ("--steps", "2", "--upsample-steps", "2")


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
    assert "warning" not in err and "error" not in err
    assert out.splitlines()[0] == f"2 pictures in {tmp_path}: 00000.png to 00001.png"
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


@pytest.mark.slow
def test_the_small_pictures_are_those_of_a_run_without_a_second_stage(
    cascade: list[object], tmp_path: Path
) -> None:
    assert call(*cascade, "--prompt", CAPTIONS[0], "--out", tmp_path / "a") == 0
    assert call(*cascade[:2], "--steps", 2, "--prompt", CAPTIONS[0], "--out", tmp_path / "b") == 0
    assert (tmp_path / "a/00000-8.png").read_bytes() == (tmp_path / "b/00000.png").read_bytes()
    assert call(*cascade[:3], 8, "--steps", 2, "--prompt", CAPTIONS[0], "--out", tmp_path / "c") == 0
    assert pngs(tmp_path / "c") == ["00000.png"]


@pytest.mark.slow
def test_like_repeats_both_stages(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[1], "--num-samples", 3, "--upsample-guidance", "cfg:2@10-90"]
    flags += ["--upsample-sampler", "ddpm", "--upsample-noise", 0.2, "--upsample-temp", 0.9, "--grid"]
    assert call(*flags, "--out", tmp_path / "a") == 0
    assert call("--trust-recipe", "--like", tmp_path / "a/00002.png", "--out", tmp_path / "b") == 0
    assert pngs(tmp_path / "b") == ["00000-8.png", "00000.png"]
    for name in ("00000-8.png", "00000.png"):
        original = tmp_path / "a" / name.replace("00000", "00002")
        assert (tmp_path / "b" / name).read_bytes() == original.read_bytes()
    assert call("--trust-recipe", "--like", tmp_path / "a/00002-8.png", "--out", tmp_path / "c") == 0
    assert pngs(tmp_path / "c") == ["00000.png"]  # of the small one, the first stage alone
    assert call("--trust-recipe", "--like", tmp_path / "a/grid-00000.png", "--out", tmp_path / "d") == 0
    assert (tmp_path / "d/grid-00000.png").read_bytes() == (tmp_path / "a/grid-00000.png").read_bytes()


@pytest.mark.slow
def test_like_with_other_flags(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[1], "--upsample-guidance", "cfg:2", "--negative", CAPTIONS[0]]
    assert call(*flags, "--out", tmp_path) == 0
    change = ["--upsample-steps", 3, "--upsample-guidance", "cfg:1", "--upsample-temp", 0.5]
    assert call("--trust-recipe", "--like", tmp_path / "00000.png", *change, "--out", tmp_path) == 0
    one, two = (read_recipe(tmp_path / name)["upsampler"] for name in ("00000.png", "00001.png"))
    assert {name for name in two if one.get(name) != two[name]} == {
        "respacing",
        "steps",
        "scale",
        "temperature",
    }
    assert call("--trust-recipe", "--like", tmp_path / "00000.png", "--size", 8, "--out", tmp_path / "s") == 0
    assert (tmp_path / "s/00000.png").read_bytes() == (tmp_path / "00000-8.png").read_bytes()


@pytest.mark.slow
def test_whatever_the_batch_size(cascade: list[object], tmp_path: Path) -> None:
    flags = [*cascade, "--prompt", CAPTIONS[0], "--num-samples", 3, "--call-size", 2]
    for size in (1, 16):
        assert call(*flags, "--batch-size", size, "--out", tmp_path / str(size)) == 0
    for name in pngs(tmp_path / "1"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "16" / name).read_bytes()


@pytest.mark.slow
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
    place = tmp_path / "models"
    monkeypatch.setattr(upscale, "EMBEDDED", place)
    monkeypatch.setattr(second_stage, "EMBEDDED", place)
    save_model(place / text_folder.name, upsampler_model)
    assert call(*flags) == 0
    assert read_recipe(tmp_path / "o/00000.png")["upsampler"]["model"] == text_folder.name
    assert call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o") == 0
    assert (tmp_path / "o/00001.png").read_bytes() == (tmp_path / "o/00000.png").read_bytes()
    # the weights are those that enlarged it, or the run is refused
    save_model(
        place / text_folder.name, randomised(Model(upsampler_model.config, upsampler_model.tokenizer), 9)
    )
    capsys.readouterr()
    refused(
        call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o"),
        capsys,
        "has other weights",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--size 64", "--size 64, expected 8 or 32"),
        ("--size 32 --upsample-steps 2 --upsample-respacing fast27", "expected one of them"),
        ("--size 32 --upsample-noise 1", "--upsample-noise 1.0, expected a finite number from 0 and below 1"),
        ("--size 32 --upsample-temp nan", "--upsample-temp nan, expected a finite number"),
        ("--size 32 --upsample-guidance magic", "the guidance 'magic'"),
        ("--size 32 --upsample-guidance clip:5", "got a CLIP of 64x64 pixels for a model of 32x32"),
        ("--size 32 --upsample-steps 0", "--upsample-steps 0, expected a whole number"),
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


# --- the other scripts ----------------------------------------------------------------------------------------------


def script_runs(monkeypatch: pytest.MonkeyPatch, name: str, *argv: object) -> int:
    monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts" / name), run_name="__main__")
    return int(end.value.code or 0)


@pytest.mark.slow
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
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure) == 2
    assert "already holds results (psnr.json, side-by-side.png)" in capsys.readouterr().err
    measure += ["--overwrite", "--reference-steps", 2, "--sampler"]
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "dpmpp-2m") == 0
    assert "to 2 steps PSNR 120.00 dB" in capsys.readouterr().out  # the same twice
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "ddpm", "--spacing", "karras") == 0
    assert "to 2 steps PSNR 120" not in (said := capsys.readouterr().out) and "to 2 steps PSNR" in said
    assert script_runs(monkeypatch, "evaluate_upsampler.py", *measure, "best") == 2
    assert "'best'" in capsys.readouterr().err
    assert pngs(tmp_path / "m") == ["psnr.json", "side-by-side.png"]


@pytest.mark.slow
def test_the_oracle_judges_what_is_enlarged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    """A base model of 16x16, which is as small as the oracle reads, and an upsampler of that."""
    from glide.networks.presets import PRESETS
    from glide.networks.tokenizer import Tokenizer
    from glide.shapes.dataset import captions_for_tokenizer
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
