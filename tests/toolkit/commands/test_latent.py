"""Latent diffusion by the commands: an autoencoder, a model of its latents, pictures."""

import json
from pathlib import Path

import pytest
import sample as sample_script
import torch
import train_autoencoder as autoencoder_script
import train_base as train_script
from PIL import Image

from glide.checkpoints.autoencoders import load_autoencoder
from glide.checkpoints.image_encoders import load_image_encoder
from glide.checkpoints.load import load_model, save_model
from glide.checkpoints.provenance import fingerprint
from glide.training.reconstruction import perceptual_error
from glide.utils.cli import run
from glide.utils.errors import InputError
from support.image_encoders import write_image_encoder
from support.latent import latent_model
from support.models import CAPTIONS
from support.sample_script import Capture, refused
from toolkit.commands import train_autoencoder
from toolkit.evaluation.features import Features

TRAINING = (
    *(
        "--batch-size",
        "2",
        "--dtype",
        "float32",
        "--log-every",
        "1",
        "--sample-every",
        "9",
        "--device",
        "cpu",
    ),
    *("--warmup", "1", "--ema", "0.5"),
)
BASE = (*TRAINING, "--preset", "tiny", "--unet.image-size", "16", "--validation-batches", "0")


def call(script: object, *argv: object) -> int:
    """Exit code of a script's `main`."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))  # type: ignore[attr-defined]
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def autoencoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps."""
    out = tmp_path_factory.mktemp("autoencoder") / "run"
    small = ("--preset", "tiny", "--image-size", "32", "--held-out-images", "2", "--sample-every", "2")
    assert call(autoencoder_script, *TRAINING, *small, "--steps", "2", "--out", out) == 0
    assert call(autoencoder_script, *TRAINING, *small, "--steps", "3", "--out", out, "--resume") == 0
    return out


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six captioned pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        Image.new("RGB", (70, 64), (40 * i, 255 - 40 * i, 90)).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text(f"colour {i}")
    return folder


def test_an_autoencoder_is_trained(autoencoder: Path) -> None:
    lines = [json.loads(line) for line in (autoencoder / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and lines[-1]["psnr"] > 0
    measured = json.loads((autoencoder / "validation.jsonl").read_text().splitlines()[-1])
    assert measured["step"] == 3 and measured["validation_psnr"] > 0
    with Image.open(autoencoder / "samples" / "0000002.png") as sheet:
        assert sheet.size == (2 * 34 + 2, 2 * 34 + 2)
    config = json.loads((autoencoder / "config.json").read_text())
    assert config["kind"] == "autoencoder" and len(config["model"]["mean"]) == 4
    assert config["training"]["train"]["steps"] == 3


@pytest.mark.slow
def test_a_perceptual_loss_is_part_of_the_training(tmp_path: Path, capsys: Capture) -> None:
    encoder, out = write_image_encoder(tmp_path / "dino", "dinov2"), tmp_path / "run"
    small = (*TRAINING, "--preset", "tiny", "--image-size", "32", "--held-out-images", "1", "--steps", "1")
    perceptual = ("--perceptual", f"dinov2:{encoder}", "--perceptual-weight", "0.5")
    assert call(autoencoder_script, *small, *perceptual, "--out", out) == 0
    (line,) = (json.loads(line) for line in (out / "log.jsonl").read_text().splitlines())
    assert line["perceptual"] > 0
    assert line["loss"] == pytest.approx(line["l1"] + line["gradients"] + 0.5 * line["perceptual"], rel=1e-4)
    training = json.loads((out / "config.json").read_text())["training"]
    assert training["perceptual"].startswith("dinov2:") and training["loss"]["perceptual_weight"] == 0.5
    # its gradient reaches the decoder
    model, features = load_autoencoder(out), load_image_encoder("dinov2", str(encoder)).features
    x = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    y = model.reconstruct(model.moments(x)[0]).requires_grad_()
    perceptual_error(features, x, y).sum().backward()
    assert y.grad is not None and y.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    capsys.readouterr()
    grey = ("--autoencoder.in-channels", "1", *perceptual)
    said = "got pictures of 1 channels for an image encoder of 3"
    refused(call(autoencoder_script, *small, *grey, "--out", tmp_path / "grey"), capsys, said)
    said = "got --perceptual-weight 0.5 without --perceptual, expected both"
    refused(call(autoencoder_script, *small, *perceptual[2:], "--out", tmp_path / "none"), capsys, said)


def test_features_of_evaluations_are_perceptual_losses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of the group glide.features: its vectors are maps of one place, with a gradient."""

    def network(images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3))

    features = Features("colours", "colours", 8, 3, "", network, torch.device("cpu"))
    monkeypatch.setattr(train_autoencoder, "plug_ins", lambda group: {"colours": None})
    monkeypatch.setattr(train_autoencoder, "features_named", lambda name, device: features)
    find = train_autoencoder.perceptual_features("colours", 3, torch.device("cpu"))
    x = torch.rand(2, 3, 16, 16, requires_grad=True)
    (found,) = find(x)
    torch.testing.assert_close(found[:, :, 0, 0], x.mean(dim=(2, 3)), rtol=0, atol=1e-2)
    perceptual_error(find, x, x.flip(1)).sum().backward()
    assert x.grad is not None and bool(x.grad.abs().sum() > 0)
    with pytest.raises(InputError, match="of 1 channels, expected 3"):
        train_autoencoder.perceptual_features("colours", 1, torch.device("cpu"))


@pytest.mark.slow
def test_a_model_of_latents_is_trained_resumed_and_sampled(autoencoder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    flags = (*BASE, "--first-stage", autoencoder, "--out", out)
    assert call(train_script, *flags, "--steps", "2") == 0
    assert call(train_script, *flags, "--steps", "3", "--resume") == 0
    model = load_model(out)
    assert model.config.unet.in_channels == 4 and model.config.picture_size == 64
    assert model.config.first_stage is not None and model.config.first_stage.source == ""
    sample = ("--model", out, "--prompt", "a red circle", "--steps", "2", "--out", tmp_path / "pictures")
    assert call(sample_script, *sample, "--gif") == 0
    with Image.open(tmp_path / "pictures" / "00000.png") as picture:
        assert picture.size == (64, 64)
    first, again = tmp_path / "pictures" / "00000.png", tmp_path / "again"
    assert call(sample_script, "--like", first, "--trust-recipe", "--out", again) == 0
    with Image.open(first) as one, Image.open(again / "00000.png") as other:
        assert one.tobytes() == other.tobytes()


@pytest.mark.slow
def test_an_upsampler_enlarges_what_is_drawn_from_latents(tmp_path: Path, upsampler_folder: Path) -> None:
    save_model(tmp_path / "model", latent_model())
    flags = ("--model", tmp_path / "model", "--prompt", CAPTIONS[0], "--steps", "2", "--upsample-steps", "2")
    large = ("--upsampler", upsampler_folder, "--size", "128", "--out", tmp_path / "out")
    assert call(sample_script, *flags, *large) == 0
    with Image.open(tmp_path / "out/00000.png") as found, Image.open(tmp_path / "out/00000-32.png") as small:
        assert (found.size, small.size) == ((128, 128), (32, 32))


def test_latents_encoded_ahead_train_the_same_model(
    autoencoder: Path, pictures: Path, tmp_path: Path
) -> None:
    flags = (*BASE, "--first-stage", autoencoder, "--data", pictures, "--steps", "2")
    ahead = tmp_path / "latents"
    assert call(train_script, *flags, "--out", tmp_path / "loop") == 0
    for name in ("ahead", "again"):
        assert call(train_script, *flags, "--out", tmp_path / name, "--encode-ahead", ahead) == 0
    losses = {
        name: [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("loop", "ahead", "again")
    }
    assert losses["ahead"] == losses["again"]
    assert losses["ahead"] == pytest.approx(losses["loop"], rel=2e-3)
    assert fingerprint(load_model(tmp_path / "ahead")) == fingerprint(load_model(tmp_path / "again"))


def test_latents_are_encoded_in_parts_by_several_runs(
    autoencoder: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("glide.data.latents.PER_SHARD", 2)
    flags = (
        *BASE,
        "--first-stage",
        autoencoder,
        "--data",
        pictures,
        "--steps",
        "1",
        "--out",
        tmp_path / "run",
    )
    for part in ("2/2", "1/2", "1/2"):
        parts = ("--encode-ahead", tmp_path / "parts", "--encode-part", part)
        assert call(train_script, *flags, *parts) == 0
        assert capsys.readouterr().out.startswith(f"part {part}: ")
    assert not (tmp_path / "run").exists()
    files = sorted(path.name for path in (tmp_path / "parts").iterdir())
    before = {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in files}
    assert call(train_script, *flags, "--encode-ahead", tmp_path / "parts") == 0  # finds all of them
    assert before == {name: (tmp_path / "parts" / name).stat().st_mtime_ns for name in files}
    whole = (*flags[:-1], tmp_path / "other", "--encode-ahead", tmp_path / "whole")
    assert call(train_script, *whole) == 0
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    capsys.readouterr()
    for wrong in (("--encode-part", "1/2"), ("--encode-part", "3/2", "--encode-ahead", tmp_path / "x")):
        assert call(train_script, *flags, *wrong) == 2
        assert "expected" in capsys.readouterr().err


@pytest.mark.slow
def test_inpainting_of_latents_is_trained(autoencoder: Path, tmp_path: Path) -> None:
    flags = (*BASE, "--first-stage", autoencoder, "--steps", "1", "--inpaint", "--sample-every", "1")
    assert call(train_script, *flags, "--out", tmp_path / "run") == 0
    assert load_model(tmp_path / "run").config.inpaint


@pytest.mark.slow
def test_a_model_of_pixels_can_be_begun_with(autoencoder: Path, tmp_path: Path) -> None:
    flags = (*TRAINING, "--validation-batches", "0", "--first-stage", autoencoder, "--init", "shapes")
    flags += ("--model.inpaint", "false", "--text.layers", "2", "--steps", "1", "--unet.image-size", "16")
    assert call(train_script, *flags, "--out", tmp_path / "run") == 0
    assert load_model(tmp_path / "run").config.picture_size == 64


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--first-stage", "shapes"), "holds a diffusion model, expected an autoencoder model"),
        (("--channels", "3", "--first-stage", "AE"), "got --channels with --first-stage"),
        (("--encode-ahead", "latents", "--first-stage", "AE"), "drawn on demand"),
        (("--encode-ahead", "latents"), "got --encode-ahead for a model of pixels"),
        (("--first-stage", "AE", "--unet.in-channels", "3"), "got both --first-stage"),
    ],
)
def test_bad_input(
    flags: tuple[str, ...], said: str, autoencoder: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = [str(autoencoder) if flag == "AE" else flag for flag in flags]
    out = tmp_path / "run"
    refused(call(train_script, *BASE, "--steps", "1", *words, "--out", out), capsys, said)
    assert not (out / "config.json").exists()


def test_bad_input_of_the_autoencoder(tmp_path: Path, capsys: Capture) -> None:
    out = ("--out", tmp_path / "run", "--steps", "1")
    refused(
        call(autoencoder_script, *out, "--image-size", "66"),
        capsys,
        "got --image-size 66, expected a multiple of 4",
    )
    refused(call(autoencoder_script, *out, "--preset", "f5"), capsys, "got the preset 'f5', expected one of")
    refused(call(autoencoder_script, *out, "--latent-noise", "-1"), capsys, "latent")
