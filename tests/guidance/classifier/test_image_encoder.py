"""The noisy classifier as an image encoder: the input of its last layer, and maps with a gradient."""

from pathlib import Path

import pytest
import torch

from glide.networks.config import FirstStageConfig
from glide.utils.errors import InputError
from guidance.classifier.config import POOLS, ClassifierConfig
from guidance.classifier.image_encoder import ClassifierImages, before_last_layer, load
from guidance.classifier.load import save_classifier
from guidance.classifier.network import NoisyClassifier
from support.models import tiny_unet

X = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("pool", POOLS)
def test_the_last_layer_of_an_embedding_gives_the_logits(pool: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    classifier = NoisyClassifier(ClassifierConfig(tiny_unet(3), 5, pool=pool)).eval()
    for weight in classifier.parameters():
        weight.data.add_(0.1 * torch.randn_like(weight))
    save_classifier(tmp_path / "classifier", classifier)
    encoder = load(str(tmp_path / "classifier"))
    embedded = encoder.encode(X)
    assert embedded.shape == (3, encoder.width)
    assert encoder.fingerprint == ClassifierImages(classifier).fingerprint
    logits = classifier(X, torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(classifier.pool.head(embedded), logits, rtol=1e-5, atol=1e-5)
    assert torch.equal(before_last_layer(classifier, X)[1], logits)


def test_feature_maps_are_those_of_the_trunk() -> None:
    encoder, x = ClassifierImages(NoisyClassifier(ClassifierConfig(tiny_unet(3), 5)).eval()), X.clone()
    maps = encoder.features(x.requires_grad_())
    assert [h.shape[-1] for h in maps] == [8, 4]
    maps[0].square().sum().backward()
    assert x.grad is not None and x.grad.abs().amax(dim=(1, 2, 3)).min() > 0
    of_latents = ClassifierConfig(tiny_unet(3), 5, first_stage=FirstStageConfig())
    with pytest.raises(InputError, match="a network of latents for feature maps"):
        ClassifierImages(NoisyClassifier(of_latents)).features(torch.zeros(1, 3, 32, 32))
