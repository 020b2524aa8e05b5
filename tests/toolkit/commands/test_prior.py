"""train_prior.py: data, encoder, resume, and settings that do not fit."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import train_prior as script
from PIL import Image

from glide.checkpoints.load import load_model
from glide.checkpoints.priors import load_prior
from glide.training import train_prior as training
from glide.utils.cli import run
from support.image_encoders import write_image_encoder
from support.sample_script import Capture, refused

TRAINING = (
    *("--preset", "tiny", "--batch-size", "4", "--warmup", "1", "--ema", "0.5", "--validation-batches", "1"),
    *(
        "--dtype",
        "float32",
        "--log-every",
        "1",
        "--sample-every",
        "9",
        "--device",
        "cpu",
    ),
)


@pytest.fixture(autouse=True, scope="module")
def fewer_pictures() -> Iterator[None]:
    """Mean and deviation are those of a few pictures, so that a run begins at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "MEASURED", 16)
        yield


def call(*argv: object) -> int:
    """Exit code of the script's `main`."""
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([str(arg) for arg in argv]))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_image_encoder(tmp_path_factory.mktemp("encoder") / "dino", "dinov2")


@pytest.fixture(scope="module")
def prior(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps, in one go."""
    out = tmp_path_factory.mktemp("prior") / "run"
    assert call(*TRAINING, "--image-encoder", f"dinov2:{encoder}", "--steps", "4", "--out", out) == 0
    return out


def test_a_prior_is_trained(prior: Path, encoder: Path) -> None:
    lines = [json.loads(line) for line in (prior / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4] and -1 <= lines[-1]["cosine"] <= 1
    measured = json.loads((prior / "validation.jsonl").read_text().splitlines()[-1])
    assert {"validation_loss", "cosine", "unrelated"} <= measured.keys()
    record = json.loads((prior / "config.json").read_text())
    model = record["model"]
    assert record["kind"] == "prior" and len(model["mean"]) == len(model["std"]) == 12 and not model["unit"]
    assert model["image_encoder"]["kind"] == "dinov2" and len(model["image_encoder"]["fingerprint"]) == 16
    assert record["training"]["train"]["steps"] == 4
    assert load_prior(prior).tokenizer is not None


@pytest.mark.slow
def test_a_run_that_goes_on_is_the_run_in_one_go(prior: Path, encoder: Path, tmp_path: Path) -> None:
    out, more = tmp_path / "run", ("--image-encoder", f"dinov2:{encoder}")
    half = ("--cooldown", "0")  # the rate does not depend on the number of steps
    assert call(*TRAINING, *more, *half, "--steps", "4", "--out", tmp_path / "whole") == 0
    assert call(*TRAINING, *more, *half, "--steps", "2", "--out", out) == 0
    assert call(*TRAINING, *half, "--steps", "4", "--out", out, "--resume") == 0
    a, b = (load_prior(folder).state_dict() for folder in (tmp_path / "whole", out))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_weights_to_begin_with(prior: Path, tmp_path: Path) -> None:
    assert call(*TRAINING[2:], "--init", prior, "--steps", "1", "--lr", "1e-9", "--out", tmp_path / "a") == 0
    first, then = load_prior(prior), load_prior(tmp_path / "a")
    assert first.config == then.config
    for name, value in first.state_dict().items():
        torch.testing.assert_close(then.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    text = ("--init-text", "shapes", "--image-encoder", "noisy-clip:shapes-clip", "--batch-size", "2")
    assert call(*TRAINING, *text, "--steps", "1", "--lr", "1e-9", "--out", tmp_path / "b") == 0
    trained, source = load_prior(tmp_path / "b"), load_model("shapes")
    assert trained.config.text == source.config.text and trained.config.unit
    assert source.text is not None
    for name, value in source.text.state_dict().items():
        torch.testing.assert_close(trained.text.state_dict()[name], value, rtol=1e-4, atol=1e-5)


def test_bad_input(prior: Path, tmp_path: Path, capsys: Capture) -> None:
    out = ("--steps", "1", "--out", tmp_path / "run")
    other = write_image_encoder(tmp_path / "other", "dinov2", seed=1)
    classes = tmp_path / "classes"
    for name in ("a", "b"):
        (classes / name).mkdir(parents=True)
        for i in range(4):
            Image.new("RGB", (20, 20), (40 * i, 0, 0)).save(classes / name / f"{i}.png")
    capsys.readouterr()
    for flags, said in (
        ((), "got no --image-encoder, expected the one whose embeddings are learned"),
        (("--image-encoder", "vgg"), "got the image encoder 'vgg', expected KIND:PLACE or a folder"),
        (
            ("--preset", "large", "--image-encoder", other),
            "got the preset 'large', expected one of tiny, shapes",
        ),
        (
            ("--data", classes, "--image-encoder", other),
            "pictures with classes, for a prior, which reads captions",
        ),
        (("--init-text", prior, "--image-encoder", other), "holds a prior model, expected a diffusion model"),
        (
            ("--prior.width", "33", "--image-encoder", other),
            "got prior.width 33, expected a multiple of prior.heads",
        ),
    ):
        refused(call(*TRAINING, *flags, *out), capsys, said)
    refused(
        call(*TRAINING[2:], "--init", prior, "--image-encoder", other, *out),
        capsys,
        "which the model was trained with: give that one",
    )
    assert not (tmp_path / "run" / "config.json").exists()


def test_the_configuration_is_shown(capsys: Capture, tmp_path: Path) -> None:
    assert call("--show-config", "--prior.layers", "3", "--out", tmp_path / "run") == 0
    shown = capsys.readouterr().out
    assert "layers = 3  # --prior.layers" in shown and "# mean = []  # set by the data" in shown
