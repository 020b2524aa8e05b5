"""The embedded model of emoji draws a concept in its caption's colours, and names whose pictures it learned from."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import glide
import upsampler
from glide.networks.image_request import ImageRequest
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from toolkit.evaluation.upsampling import Errors, filtered
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.upscale import Upscaler

ATTRIBUTION = Path(glide.__file__).parent / "pretrained/emoji/ATTRIBUTION.md"
CAPTIONS = (
    ("a blue heart, flat style", 2),  # with the channel that is strongest; both pairs were held out
    ("a green apple, twemoji style", 1),
)


@pytest.mark.slow
def test_it_draws_pairs_of_concept_and_style_that_it_was_never_shown() -> None:
    pipe = Pipeline.from_pretrained("emoji", "cpu")
    for caption, channel in CAPTIONS:
        result = pipe(caption, num_images_per_prompt=2, guidance_scale=2.0, num_inference_steps=12, seed=0)
        for image in result.images:
            pixels = np.asarray(image, dtype=np.float64).reshape(-1, 3)
            ink = pixels[pixels.min(axis=1) < 200]
            assert 0.15 < len(ink) / len(pixels) < 0.9, f"{caption}: a thing on white"
            assert ink.mean(axis=0).argmax() == channel, caption


def test_its_sources_are_named() -> None:
    text = ATTRIBUTION.read_text("utf-8")
    for source in (
        "noto@",
        "noto-v1@",
        "twemoji@",
        "fluent-emoji@",
        "fluent-emoji-flat@",
        "emojione@",
        "fxemoji@",
    ):
        assert f"@iconify-json/{source}" in text
    assert "CC-BY-4.0" in text and "BY-SA" not in text


def test_its_upsampler_is_small_and_says_how_it_was_trained() -> None:
    folder = Path(upsampler.__file__).parent / "pretrained/emoji"
    assert (folder / "model.safetensors").stat().st_size <= 8 * 2**20
    assert (folder / "ATTRIBUTION.md").read_text("utf-8") == ATTRIBUTION.read_text("utf-8")
    training = json.loads((folder / "config.json").read_text("utf-8"))["training"]
    assert training["command"].startswith("python scripts/train_upsampler.py")


@pytest.mark.slow
def test_its_upsampler_is_far_better_than_a_filter_on_flat_drawings() -> None:
    stage = Upscaler.load("emoji", "cpu", torch.bfloat16)
    large, filters = Errors(), Errors()
    for index, scene in enumerate(held_out_scenes(2, seed=1)):
        small, truth = render([scene], 64)[0], render([scene], 256)[0]
        large.add(stage.enlarged(torch.from_numpy(small), ImageRequest(index, "")).numpy(), truth)
        filters.add(filtered(small, 256, "lanczos"), truth)
    assert large.psnr > filters.psnr + 3, (large.psnr, filters.psnr)
