"""--evaluate-every of the other trainings: upsampler, autoencoder, prior, classifier and CLIP."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import train_autoencoder
import train_classifier
import train_clip
import train_prior
import train_upsampler
from PIL import Image
from safetensors.torch import load_file

from glide.checkpoints.load import load_model
from glide.checkpoints.priors import load_prior
from glide.data.datasets import on_device, open_data
from glide.training import train_prior as prior_training
from glide.training.metrics import read_log
from support.image_encoders import write_image_encoder
from support.sample_script import Capture, refused
from support.scripts import call
from toolkit.evaluation.upsampling import decibels
from toolkit.pipelines.prior import sample_embeddings
from toolkit.pipelines.upscale import enlarger
from upsampler.crops import LowResCrops
from upsampler.low_res_config import LowRes

QUICK = (
    "--preset",
    "tiny",
    "--batch-size",
    "2",
    "--steps",
    "3",
    "--warmup",
    "1",
    "--ema",
    "0.5",
    "--log-every",
    "1",
)
QUICK += ("--sample-every", "3", "--dtype", "float32", "--device", "cpu")
EVERY = ("--evaluate-every", "2")


@pytest.fixture(autouse=True)
def fewer_pictures() -> Iterator[None]:
    """A prior's mean and deviation are those of a few pictures, so that a run begins at once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prior_training, "MEASURED", 16)
        yield


def evaluated(script: ModuleType, out: Path, *flags: object) -> list[dict[str, Any]]:
    """The lines of a run with --evaluate-every, whose weights are those of the run without it."""
    assert call(script, *QUICK, *flags, *EVERY, "--out", out / "evaluated") == 0
    assert call(script, *QUICK, *flags, "--out", out / "plain") == 0
    one, other = (
        load_file(out / run / "checkpoints/step-0000003/model.safetensors") for run in ("evaluated", "plain")
    )
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    assert not (out / "plain/evaluation.jsonl").exists()
    found = read_log(out / "evaluated/evaluation.jsonl")
    assert [line["step"] for line in found] == [2, 3]
    return found


@pytest.mark.slow
def test_an_upsampler_is_measured_by_its_psnr(tmp_path: Path) -> None:
    flags = ("--preset", "tiny-upsampler", "--crop-size", "16", "--evaluate-pictures", "3")
    last = evaluated(train_upsampler, tmp_path, *flags)[-1]
    model = load_model(tmp_path / "evaluated")
    data = LowResCrops(open_data("shapes", 32, split="held_out"), LowRes(), 32, 16, 4, 0)
    whole, enlarge = data.whole(0, 3), enlarger(model, "float32")
    rows = zip(whole.pixels, whole.low_res, whole.captions, strict=True)
    squared = [
        (enlarge(low_res, caption, None, i).double() - truth).square().mean().item()
        for i, (truth, low_res, caption) in enumerate(rows)
    ]
    assert last["psnr"] == pytest.approx(decibels(sum(squared) / 3), rel=1e-5)
    assert last["psnr_low"] < last["psnr"] < last["psnr_high"] and last["psnr_bicubic"] > 15


@pytest.mark.slow
def test_an_autoencoder_is_measured_by_its_psnr(tmp_path: Path) -> None:
    last = evaluated(train_autoencoder, tmp_path, "--image-size", "32", "--held-out-images", "4")[-1]
    validated = read_log(tmp_path / "evaluated/validation.jsonl")[-1]
    assert last["psnr"] == validated["validation_psnr"]
    assert last["psnr_low"] < last["psnr"] < last["psnr_high"]


@pytest.mark.slow
@pytest.mark.parametrize("script", [train_classifier, train_clip])
def test_a_guide_is_measured_over_its_noise_levels(script: ModuleType, tmp_path: Path) -> None:
    held_out = ("--held-out-images", "8") if script is train_classifier else ("--held-out-pairs", "8")
    last = evaluated(script, tmp_path, *held_out, "--data", "shapes:one", "--levels", "2")[-1]
    levels = [line for line in read_log(tmp_path / "evaluated/levels.jsonl") if line["step"] == 3]
    name = "accuracy" if script is train_classifier else "image_to_text"
    assert len(levels) == 2
    for figure in (name, "loss"):
        assert last[figure] == pytest.approx(sum(line[figure] for line in levels) / 2)
    assert "t" not in last and "log_snr" not in last


@pytest.mark.slow
def test_a_prior_is_measured_by_its_embeddings(tmp_path: Path) -> None:
    encoder = write_image_encoder(tmp_path / "dino", "dinov2")
    flags = ("--image-encoder", f"dinov2:{encoder}", "--evaluate-pictures", "6", "--validation-batches", "0")
    last = evaluated(train_prior, tmp_path, *flags)[-1]
    prior = load_prior(tmp_path / "evaluated")
    images = prior_training.find_image_encoder(prior.config.image_encoder)
    batch = open_data("shapes", images.size, split="held_out").batch(0, 6)
    true = images.encode(on_device(batch, "cpu")["image"])
    drawn = sample_embeddings(prior, batch["caption"], range(6))
    assert last["cosine"] == pytest.approx(F.cosine_similarity(drawn, true).mean().item(), rel=1e-4)
    assert {"cosine_unrelated", "cosine_low", "frechet_distance", "precision", "recall"} <= last.keys()


@pytest.mark.parametrize(
    ("script", "flags", "said"),
    [
        (
            train_upsampler,
            ("--preset", "tiny-upsampler", "--judge", "efficientnet-lite0"),
            "got --judge efficientnet",
        ),
        (
            train_autoencoder,
            ("--image-size", "32", "--data", "DATA"),
            "got --evaluate-every 2 without held-out",
        ),
        (train_classifier, ("--data", "DATA", "--held-out", "0"), "got --evaluate-every 2 without held-out"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    script: ModuleType, flags: tuple[str, ...], said: str, tmp_path: Path, capsys: Capture
) -> None:
    for i in range(8):
        path = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), (20 * i, 0, 0)).save(path)
    given = [str(tmp_path / "data") if flag == "DATA" else flag for flag in flags]
    refused(call(script, *QUICK, *given, *EVERY, "--out", tmp_path / "run"), capsys, said)
    assert not (tmp_path / "run").exists()
