"""A small model that is conditioned on a map and a grey picture, with random weights."""

import dataclasses

import numpy as np
from PIL import Image

from glide.networks.config import ModelConfig, ProcessConfig, TextConfig
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from support.models import CAPTIONS, randomised, tiny_unet

SIZE = 8


def conditioned_model(conditions: tuple[str, ...] = ("map:3",), **changes: object) -> Model:
    """Of 8x8 pixels, with captions."""
    tokenizer = Tokenizer.train(CAPTIONS, 300, 16)
    text = TextConfig(tokenizer.n_vocab, 16, 32, 1, 2)
    config = ModelConfig(
        tiny_unet(6), text, conditions=conditions, null_condition=True, process=ProcessConfig(steps=100)
    )
    return randomised(Model(dataclasses.replace(config, **changes), tokenizer), 1)


def label_map(seed: int = 0, size: int = SIZE, classes: int = 3) -> Image.Image:
    """Random class numbers."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, classes, (size, size), dtype=np.uint8))
