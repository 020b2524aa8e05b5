"""The embedded upsampler: small, trained here, far better than any filter, and found by the model's name."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import upsampler
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from glide.utils.images import read_recipe
from support.sample_script import call
from toolkit.evaluation.upsampling import FILTERS, Errors, filtered
from toolkit.pipelines.upscale import Upscaler

FOLDER = Path(upsampler.__file__).parent / "pretrained/shapes"


def test_it_is_small_and_says_how_it_was_trained() -> None:
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 14 * 2**20
    training = json.loads((FOLDER / "config.json").read_text())["training"]
    assert training["command"].startswith("python scripts/train_upsampler.py")


@pytest.mark.slow
def test_it_is_far_better_than_a_filter() -> None:
    stage = Upscaler.load("shapes", "cpu", torch.bfloat16)
    errors = {name: Errors() for name in (*FILTERS, "upsampler")}
    for index, scene in enumerate(held_out_scenes(3, seed=1)):
        small, truth = render([scene], 64)[0], render([scene], 256)[0]
        large = stage.enlarged(torch.from_numpy(small), ImageRequest(index, scene.caption))
        errors["upsampler"].add(large.numpy(), truth)
        for name in FILTERS:
            errors[name].add(filtered(small, 256, name), truth)
    assert errors["upsampler"].psnr > max(errors[name].psnr for name in FILTERS) + 4


@pytest.mark.slow
def test_a_caption_becomes_a_large_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--prompt", "a red ring", "--size", "256", "--steps", "4", "--upsample-steps", "2"]
    assert call(*command, "--call-size", "1", "--dtype", "bfloat16", "--out", tmp_path) == 0
    with Image.open(tmp_path / "00000.png") as large, Image.open(tmp_path / "00000-64.png") as small:
        assert large.size == (256, 256) and small.size == (64, 64)
    assert read_recipe(tmp_path / "00000.png")["upsampler"]["model"] == "shapes"
