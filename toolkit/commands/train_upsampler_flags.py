"""Train an upsampler: from a low-resolution picture, and a caption or a class, to one four times as high and wide.

examples:
    python scripts/train_upsampler.py --data shapes --batch-size 128 --steps 3000 --out runs/shapes-upsampler
    python scripts/train_upsampler.py --data photos/ --noise 0 0.4 --blur 1 --jpeg 30 --out runs/photos-upsampler
    python scripts/train_upsampler.py --data photos/ --noise 0 0.4 --out runs/photos-upsampler --resume
    python scripts/train_upsampler.py --data photos/ --init runs/photos-upsampler --crop-size 256 --out runs/finer

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them, or a folder per class.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from upsampler.train_flags import TrainUpsampler


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainUpsampler]:
    """The flags; those of a --recipe stand in for what is not given. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainUpsampler, "train_upsampler", description, argv),)
