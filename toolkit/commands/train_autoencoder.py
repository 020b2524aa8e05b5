"""Train an autoencoder, by default without a perceptual loss, or with that of any features of the evaluations.

Shape letters: N pictures, C channels, H W pixels, F features.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.networks.autoencoder import Autoencoder
from glide.training.reconstruction import Features
from glide.training.train_autoencoder import encoder_features, train_autoencoder
from glide.training.train_autoencoder_flags import TrainAutoencoder
from glide.utils.entry_points import plug_ins
from glide.utils.errors import InputError
from toolkit.evaluation.features import GROUP, features_named


def train(args: TrainAutoencoder) -> Autoencoder:
    """The training. InputError as `train_autoencoder`."""
    return train_autoencoder(args, perceptual_features)


def perceptual_features(name: str, channels: int, device: torch.device) -> Features:
    """The feature maps of --perceptual: those of an image encoder, else the features of an evaluation.

    InputError for an unknown name, and for features of other channels.
    """
    kind = name.partition(":")[0]
    if kind != "inception" and kind not in plug_ins(GROUP):
        return encoder_features(name, channels, device)
    if channels != 3:
        raise InputError(
            f"got the features {name} for pictures of {channels} channels, expected 3: give others"
        )
    found = features_named(name, device)

    def maps(images: Tensor) -> Sequence[Tensor]:
        """Pictures [N,C,H,W] in [-1, 1] as one map [N,F,1,1], with a gradient."""
        size = (found.size, found.size)
        output = found.network(F.interpolate(images, size, mode="bicubic", antialias=True))
        features = output[0] if isinstance(output, tuple) else output
        return [features[:, :, None, None]]

    return maps
