"""A small latent diffusion model with random weights."""

import dataclasses

import torch

from glide.checkpoints.provenance import fingerprint
from glide.networks.autoencoder import Autoencoder
from glide.networks.autoencoder_config import AutoencoderConfig
from glide.networks.config import (
    FirstStageConfig,
    ModelConfig,
    ProcessConfig,
    TextConfig,
    UNetConfig,
)
from glide.networks.first_stage import LatentStage
from glide.networks.image_config import ImageConfig
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.network import NoisyClassifier
from guidance.clip.config import ClipConfig
from guidance.clip.network import NoisyClip
from support.guides import shaken
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


def latent_classifier(model: Model) -> NoisyClassifier:
    """A noisy classifier of three classes, of the latents that the model draws."""
    c = model.config
    torch.manual_seed(0)
    process, names = ProcessConfig(steps=100), ("circle", "square", "star")
    net = NoisyClassifier(ClassifierConfig(c.unet, 3, names, process=process, first_stage=c.first_stage))
    net.first_stage = model.first_stage
    return shaken(net)


def latent_clip(model: Model) -> NoisyClip:
    """A noisy CLIP with a vision transformer, of the latents that the model draws, with its words."""
    c = model.config
    assert c.text is not None
    text = dataclasses.replace(c.text, padding=False)
    image = ImageConfig(c.unet.image_size, 2, 32, 1, 2, channels=c.unet.in_channels)
    torch.manual_seed(0)
    clip = NoisyClip(ClipConfig(image, text, 16, c.process, first_stage=c.first_stage), model.tokenizer)
    clip.first_stage = model.first_stage
    return shaken(clip)
