"""The embedded model of emoji draws a concept in its caption's colours, and names whose pictures it learned from."""

from pathlib import Path

import numpy as np
import pytest

import glide
from toolkit.pipelines.pipeline import Pipeline

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
    text = (Path(glide.__file__).parent / "pretrained/emoji/ATTRIBUTION.md").read_text("utf-8")
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
