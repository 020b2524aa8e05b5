"""Train a noisy classifier, whose gradient steers a diffusion model to a class (classifier guidance, 2105.05233).

examples:
    python scripts/train_classifier.py --data shapes:one --target shape --out runs/shape-classifier
    python scripts/train_classifier.py --data shapes:one --target color --like shapes --out runs/color-classifier
    python scripts/train_classifier.py --like runs/latent --encoder.image-size 16 --out runs/latent-classifier
    python scripts/train_classifier.py --steps 4000 --lr 1e-3 --muon-lr 0.02 --cooldown 0.6 --out runs/sooner
    python scripts/train_classifier.py --data photos/ --preset shapes-64 --held-out 0.1 --plot --out runs/photos
    python scripts/train_classifier.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos --resume

photos/ holds a folder of pictures for each class.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from guidance.classifier.train_flags import TrainClassifier


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainClassifier]:
    """The flags; those of a --recipe stand in for what is not given. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainClassifier, "train_classifier", description, argv),)
