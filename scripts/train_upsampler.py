"""Train an upsampler: from a low-resolution picture, and a caption or a class, to one four times as high and wide.

examples:
    python scripts/train_upsampler.py --data shapes --batch-size 128 --steps 3000 --out runs/shapes-upsampler
    python scripts/train_upsampler.py --data photos/ --noise 0 0.4 --blur 1 --jpeg 30 --out runs/photos-upsampler
    python scripts/train_upsampler.py --data photos/ --noise 0 0.4 --out runs/photos-upsampler --resume
    python scripts/train_upsampler.py --data photos/ --init runs/photos-upsampler --crop-size 256 --out runs/finer

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them, or a folder per class.
"""

from collections.abc import Sequence

import _path  # noqa: F401

from glide.utils.cli import run


def main(argv: Sequence[str] | None = None) -> None:
    from functools import partial

    from glide.training.published_recipes import parse_with_recipe
    from toolkit.pipelines.parts import UPSAMPLING
    from toolkit.pipelines.upscale import enlarger
    from upsampler.train import TrainUpsampler, train_upsampler

    train_upsampler(
        parse_with_recipe(TrainUpsampler, "train_upsampler", __doc__, argv),
        partial(enlarger, upsampling=UPSAMPLING),
    )


if __name__ == "__main__":
    run(main)
