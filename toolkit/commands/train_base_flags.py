"""Train a text- or class-conditional diffusion model.

examples:
    python scripts/train_base.py --data shapes:one --preset shapes-32 --steps 3000 --out runs/one
    python scripts/train_base.py --data photos/ --preset shapes-64 --out runs/photos
    python scripts/train_base.py --data photos/ --preset shapes-64 --out runs/photos --resume
    python scripts/train_base.py --data "shards/{0000..0999}.tar" --preset glide-base --out runs/base
    python scripts/train_base.py --data photos/ --init runs/photos --null-captions 0.2 --out runs/photos-cfg
    python scripts/train_base.py --data photos/ --init runs/photos --inpaint --out runs/photos-inpaint

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them, or a folder per class;
shards are WebDataset's. docs/data.md says more, and scripts/check_data.py says what is in them.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from glide.training.train_base_flags import TrainBase


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainBase]:
    """The flags; those of a --recipe stand in for what is not given. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainBase, "train_base", description, argv),)
