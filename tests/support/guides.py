"""Shared by tests: guides, shaken."""

import dataclasses
from typing import Any

import pytest
import torch
from torch import nn

from glide.checkpoints.load import save_model
from glide.networks.image_config import ImageConfig
from glide.networks.model import Model
from glide.networks.process_config import ProcessConfig
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.load import save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.clip.config import ClipConfig
from guidance.clip.load import save_clip
from guidance.clip.network import NoisyClip
from guidance.options import Options
from support.models import randomised, tiny_unet


def shaken(module: nn.Module) -> Any:
    """No weight is zero, which all are that a network begins without."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(torch.randn(p.shape, generator=generator), alpha=0.1)
    return module.eval()


@pytest.fixture(scope="session")
def guides(text_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Options:
    """Folders of a weaker model, a noisy classifier and a noisy CLIP for `text_model`."""
    folder = tmp_path_factory.mktemp("guides")
    save_model(folder / "weak", randomised(Model(text_model.config, text_model.tokenizer), seed=9))
    names = ("circle", "square", "star")
    classifier = NoisyClassifier(ClassifierConfig(tiny_unet(3), 3, names, process=ProcessConfig(steps=100)))
    save_classifier(folder / "classifier", shaken(classifier))
    assert text_model.config.text is not None
    text = dataclasses.replace(text_model.config.text, padding=False)
    clip = NoisyClip(ClipConfig(ImageConfig(8, 4, 32, 1, 2), text, 16, text_model.config.process))
    clip.tokenizer = text_model.tokenizer
    save_clip(folder / "clip", shaken(clip))
    return Options(**{name: str(folder / name) for name in ("weak", "classifier", "clip")})
