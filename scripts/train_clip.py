"""Train a noisy CLIP, whose gradient steers a diffusion model to a caption (CLIP guidance, 2112.10741).

examples:
    python scripts/train_clip.py --data shapes --steps 4000 --save-dtype float16 --out runs/shapes-clip
    python scripts/train_clip.py --data shapes --like shapes --wrong-captions 4 --plot --out runs/shapes-clip
    python scripts/train_clip.py --data shapes --init shapes --like shapes --gradient-weight 100 --out runs/shapes-clip
    python scripts/train_clip.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos-clip
    python scripts/train_clip.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos-clip --resume
    python scripts/train_clip.py --data photos/ --preset glide --vocab vocab/clip --out runs/large-clip

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them.
"""

import _path  # noqa: F401

from glide.utils.cli import run


def main() -> None:
    from glide.training.published_recipes import parse_with_recipe
    from guidance.clip.train import TrainClip, train_clip

    train_clip(parse_with_recipe(TrainClip, "train_clip", __doc__))


if __name__ == "__main__":
    run(main)
