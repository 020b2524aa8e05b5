"""A tiny CLIP with random weights, and what it is asked."""

import dataclasses
from typing import Any

import torch

from glide.networks.image_config import ImageConfig
from glide.networks.model import Model
from guidance.clip.config import ClipConfig
from guidance.clip.network import NoisyClip

RED, SQUARE = "a red circle", "a blue square"
LONG = " ".join(["circle"] * 20)
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def tiny_clip(model: Model, **changes: Any) -> NoisyClip:
    """Random weights, for the pictures, noise and words of `model`, with every kind of layer."""
    assert model.config.text is not None
    text = dataclasses.replace(model.config.text, padding=False)
    image = ImageConfig(8, 4, 32, 1, 2, stem=(16,), pool="mean")
    config = ClipConfig(image, text, 16, model.config.process)
    torch.manual_seed(0)
    clip = NoisyClip(dataclasses.replace(config, **changes), model.tokenizer)
    with torch.no_grad():
        for p in clip.parameters():
            p.add_(torch.randn(p.shape), alpha=0.1)
    return clip.eval()
