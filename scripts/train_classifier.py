"""Train a noisy classifier, whose gradient steers a diffusion model to a class (classifier guidance, 2105.05233).

examples:
    python scripts/train_classifier.py --data shapes:one --target shape --out runs/shape-classifier
    python scripts/train_classifier.py --data shapes:one --target color --like shapes --out runs/color-classifier
    python scripts/train_classifier.py --steps 4000 --lr 1e-3 --muon-lr 0.02 --cooldown 0.6 --out runs/sooner
    python scripts/train_classifier.py --data photos/ --preset shapes-64 --held-out 0.1 --plot --out runs/photos
    python scripts/train_classifier.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos --resume

photos/ holds a folder of pictures for each class.
"""

import _path  # noqa: F401

from glide.utils.cli import run


def main() -> None:
    from glide.training.published_recipes import parse_with_recipe
    from guidance.classifier.train import TrainClassifier, train_classifier

    train_classifier(parse_with_recipe(TrainClassifier, "train_classifier", __doc__))


if __name__ == "__main__":
    run(main)
