"""The embedded autoencoder and the model of its latents: small, trained here, and exact enough."""

import json
from pathlib import Path

import pytest
import torch

import glide
from glide.checkpoints.autoencoders import load_autoencoder
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.oracle import Oracle
from glide.shapes.render import render
from glide.utils.images import from_uint8, to_uint8
from toolkit.evaluation.upsampling import Errors
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

FOLDER = Path(glide.__file__).parent / "pretrained"


@pytest.mark.parametrize(
    ("name", "script", "most"),
    [("shapes-autoencoder", "train_autoencoder", 4), ("shapes-latent", "train_base", 12)],
)
def test_they_are_small_and_say_how_they_were_trained(name: str, script: str, most: int) -> None:
    assert sum(file.stat().st_size for file in (FOLDER / name).iterdir()) <= most * 2**20
    training = json.loads((FOLDER / name / "config.json").read_text())["training"]
    assert training["command"].startswith(f"python scripts/{script}.py")
    assert training["log"]["step"] == training["step"]


def test_scenes_are_reconstructed() -> None:
    autoencoder, errors, oracle = load_autoencoder("shapes-autoencoder"), Errors(), Oracle()
    for scene in held_out_scenes(6, seed=3):
        truth = torch.from_numpy(render([scene], 256))
        found = to_uint8(autoencoder.decode(autoencoder.encode(from_uint8(truth))))
        errors.add(found[0].numpy(), truth[0].numpy())
        assert oracle.judge(found[0].numpy(), scene.facts).all_right
    assert errors.psnr > 36


@pytest.mark.slow
def test_captions_are_drawn_at_256_pixels() -> None:
    pipe, oracle = Pipeline.from_pretrained("shapes-latent", "cpu"), Oracle()
    scenes = held_out_scenes(6, seed=1)
    rows = [ImageRequest(i, scene.caption) for i, scene in enumerate(scenes)]
    *_, last = pipe.draw(rows, SamplingConfig(respacing="12", guidance="cfg", scale=3.0))
    assert last.x.shape == (6, 3, 256, 256)
    drawn = zip(to_uint8(last.x), scenes, strict=True)
    assert sum(oracle.judge(pixels.numpy(), scene.facts).all_right for pixels, scene in drawn) >= 5
