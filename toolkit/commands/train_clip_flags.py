"""Train a noisy CLIP, whose gradient steers a diffusion model to a caption (CLIP guidance, 2112.10741).

examples:
    python scripts/train_clip.py --data shapes --steps 4000 --save-dtype float16 --out runs/shapes-clip
    python scripts/train_clip.py --data shapes --like shapes --wrong-captions 4 --plot --out runs/shapes-clip
    python scripts/train_clip.py --data shapes --init shapes --like shapes --gradient-weight 100 --out runs/shapes-clip
    python scripts/train_clip.py --data shapes --like runs/latent --init runs/latent --out runs/latent-clip
    python scripts/train_clip.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos-clip
    python scripts/train_clip.py --data photos/ --preset shapes-64 --held-out 0.1 --out runs/photos-clip --resume
    python scripts/train_clip.py --data photos/ --preset glide --vocab vocab/clip --out runs/large-clip

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them.
"""

from __future__ import annotations

from collections.abc import Sequence

from glide.training.published_recipes import parse_with_recipe
from guidance.clip.train_flags import TrainClip


def parse(argv: Sequence[str] | None, description: str | None) -> tuple[TrainClip]:
    """The flags; those of a --recipe stand in for what is not given. InputError where they do not parse or fit."""
    return (parse_with_recipe(TrainClip, "train_clip", description, argv),)
