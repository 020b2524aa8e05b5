"""A small latent diffusion model with random weights."""

import dataclasses

import torch

from glide.checkpoints.provenance import fingerprint
from glide.networks.autoencoder import Autoencoder
from glide.networks.autoencoder_config import AutoencoderConfig
from glide.networks.config import FirstStageConfig, ModelConfig, ProcessConfig, TextConfig, UNetConfig
from glide.networks.first_stage import LatentStage
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from support.models import CAPTIONS, randomised

SIZE, FACTOR = 32, 4
"""Pixels of its pictures, and of a latent."""


def small_autoencoder(**changes: object) -> Autoencoder:
    """From 32x32 pixels to 8x8 latents of 5 channels."""
    torch.manual_seed(0)
    config = dataclasses.replace(
        AutoencoderConfig(channels=8, num_res_blocks=1, latent_channels=5),
        mean=(0.1, 0.2, 0.0, 0.0, -0.1),
        std=(0.5, 0.6, 0.7, 0.8, 0.9),
    )
    return Autoencoder(dataclasses.replace(config, **changes)).eval().requires_grad_(False)


def latent_model(seed: int = 0, **changes: object) -> Model:
    """A model of 8x8 latents, of captions, with a learned variance."""
    tokenizer = Tokenizer.train(CAPTIONS, 300, 16)
    autoencoder = small_autoencoder()
    stage = FirstStageConfig("", fingerprint(autoencoder), FACTOR, 3)
    unet = UNetConfig(
        image_size=SIZE // FACTOR,
        in_channels=5,
        out_channels=10,
        channels=32,
        channel_mult=(1, 2),
        num_res_blocks=1,
        attention=(2,),
        head_channels=32,
    )
    text = TextConfig(tokenizer.n_vocab, 16, 32, 1, 2)
    config = ModelConfig(unet, text, first_stage=stage, process=ProcessConfig(steps=100))
    model = randomised(Model(dataclasses.replace(config, **changes), tokenizer), seed)
    model.first_stage = LatentStage(autoencoder, stage)
    return model
