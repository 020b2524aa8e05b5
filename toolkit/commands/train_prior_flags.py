"""Train a prior, which draws the embedding of a picture from a caption (DALL-E 2, 2204.06125).

examples:
    python scripts/train_prior.py --data shapes --image-encoder noisy-clip:shapes-clip --out runs/prior
    python scripts/train_prior.py --data photos/ --image-encoder clip:openai/clip-vit-base-patch32 --out runs/prior
    python scripts/train_prior.py --data photos/ --image-encoder runs/clip --init-text runs/base --out runs/prior
    python scripts/train_prior.py --data photos/ --image-encoder runs/clip --prior.layers 12 --out runs/deeper
    python scripts/train_prior.py --data photos/ --init runs/prior --lr 1e-4 --out runs/prior-further
    python scripts/train_prior.py --data photos/ --out runs/prior --resume

photos/ holds captioned pictures, as for train_base.py (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from glide.training.train_prior_flags import TrainPrior


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainPrior]:
    """The flags. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainPrior, "train_prior", description, argv),)
