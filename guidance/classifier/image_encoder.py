"""The noisy classifier as a frozen image encoder: the input of its last layer for a clean picture (t = 0).

Found by the entry point "classifier" of the group glide.image_encoders, as glide imports no guidance.

Shape letters: N pictures, C channels, S size of the classifier's pictures, E embedding width, D width, h w places.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.load import resolve
from glide.checkpoints.provenance import fingerprint
from glide.diffusion.conditioning import Conditioning
from glide.networks.image_encoder import PretrainedImages
from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote
from glide.utils.hub import commit_of
from guidance.classifier.load import EMBEDDED, PUBLISHED, load_classifier
from guidance.classifier.network import NoisyClassifier


class ClassifierImages(PretrainedImages):
    """The input of a noisy classifier's last layer, with as many numbers as that is wide."""

    def __init__(self, classifier: NoisyClassifier) -> None:
        config = classifier.config
        channels = config.picture_channels
        head: Any = classifier.pool.head
        super().__init__(
            classifier,
            width=head.in_features,
            size=config.picture_size,
            fingerprint=fingerprint(classifier),
            mean=(0.5,) * channels,  # [-1, 1] as it is
            std=(0.5,) * channels,
        )
        self.classifier = classifier

    def _embed(self, x: Tensor) -> Tensor:
        return before_last_layer(self.classifier, x)[0]

    def _maps(self, x: Tensor) -> list[Tensor]:
        return trunk_maps(self.classifier, x)


def before_last_layer(classifier: NoisyClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """Clean pictures [N,C,S,S] in [-1, 1] -> the input of the last layer [N,E], and logits [N,K]."""
    seen: list[Tensor] = []
    head: Any = classifier.pool.head
    hook = head.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        x = classifier.first_stage.encode(images)
        logits = classifier(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
    finally:
        hook.remove()
    return seen[0], logits


def trunk_maps(classifier: NoisyClassifier, x: Tensor) -> list[Tensor]:
    """The last activation [N,D,h,w] of each resolution of the down path, at t = 0, with a gradient to the pictures.

    InputError for a classifier of latents.
    """
    if classifier.config.first_stage is not None:
        raise InputError(
            "got a network of latents for feature maps, expected one of pixels, as latents are encoded without a "
            "gradient: give another image encoder"
        )
    t, cond = torch.zeros(len(x), dtype=torch.int64, device=x.device), Conditioning()
    maps = classifier.encoder.encode(x, classifier.encoder.embed(t, cond), cond)
    last = {h.shape[-1]: h for h in maps}  # the later ones of a resolution replace the earlier ones
    return list(last.values())


def load(place: str) -> ClassifierImages:
    """The classifier of that name: a folder, an embedded one, or a published .pt. InputError as `load_classifier`."""
    commit = None
    if not is_remote(place):
        folder = resolve(place, EMBEDDED, published=PUBLISHED)
        place, commit = str(folder), commit_of(folder)
    encoder = ClassifierImages(load_classifier(place, torch.device("cpu")))
    encoder.commit = commit
    return encoder
