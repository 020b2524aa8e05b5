"""Train an autoencoder, the first stage of latent diffusion (2112.10752): pictures to small latents, and back.

examples:
    python scripts/train_autoencoder.py --data shapes --out runs/autoencoder
    python scripts/train_autoencoder.py --data photos/ --preset f8 --image-size 256 --out runs/photos-f8
    python scripts/train_autoencoder.py --data photos/ --autoencoder.kl true --kl 1e-6 --out runs/photos-kl
    python scripts/train_autoencoder.py --data shapes --latent-noise 0.1 --equivariance 0.25 --out runs/smooth
    python scripts/train_autoencoder.py --data photos/ --out runs/photos-f8 --resume

It is a --first-stage of train_base.py; docs/latent.md says more.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from glide.training.train_autoencoder_flags import TrainAutoencoder


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainAutoencoder]:
    """The flags. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainAutoencoder, "train_autoencoder", description, argv),)
