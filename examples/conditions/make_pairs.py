"""Make pairs to learn from: pictures, and beside them what a model is to be conditioned on.

    python examples/conditions/make_pairs.py --out data/shapes --count 5000
    python examples/conditions/make_pairs.py --out data/mine --data photos/

Writes pictures/ with captions, damaged/ (noise, a scratch and a blot on each), edges/ and, of the built-in scenes,
maps/.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from glide.data.datasets import is_generated, open_data
from glide.utils.cli import parse, run


@dataclass(frozen=True)
class MakePairs:
    """The flags."""

    out: Path
    data: str = "shapes"
    """As --data of the training scripts."""
    count: int = 1000
    image_size: int = 64
    seed: int = 0


def damaged(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The picture with noise, a dark scratch and a white blot."""
    pixels = np.asarray(picture, np.float32) + rng.normal(0, 20, (*picture.size[::-1], 3))
    broken = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    side, draw = picture.width, ImageDraw.Draw(broken)
    draw.line([*(rng.random(4) * side)], fill=(20, 20, 20), width=max(side // 24, 1))
    x, y, r = (*(rng.random(2) * side), side / 8)
    draw.ellipse([x - r, y - r, x + r, y + r], fill=(255, 255, 255))
    return broken


def edges(picture: Image.Image) -> Image.Image:
    """White where neighbouring pixels differ, on black."""
    rgb = np.asarray(picture.convert("RGB"), np.int16)
    steps = [np.abs(np.diff(rgb, axis=axis, prepend=rgb.take([0], axis))).max(axis=2) for axis in (0, 1)]
    return Image.fromarray((255 * (np.maximum(*steps) > 24)).astype(np.uint8))


def make_pairs(args: MakePairs) -> None:
    """Write the folders. InputError for data that cannot be read."""
    maps = ["map:9"] if is_generated(args.data) else []
    data = open_data(args.data, args.image_size, seed=args.seed, conditions=maps)
    parts = {name: args.out / name for name in ("pictures", "damaged", "edges", *(["maps"] if maps else []))}
    for folder in parts.values():
        folder.mkdir(parents=True, exist_ok=True)
    for i in range(args.count):
        batch = data.batch(i, 1)
        picture = Image.fromarray(batch["image"][0].permute(1, 2, 0).numpy())
        made = {"pictures": picture, "edges": edges(picture)}
        made["damaged"] = damaged(picture, np.random.default_rng((args.seed, i)))
        if maps:
            made["maps"] = Image.fromarray(batch["condition.map"][0, 0].numpy())
        for name, image in made.items():
            image.save(parts[name] / f"{i:06}.png")
        if "caption" in batch:
            (parts["pictures"] / f"{i:06}.txt").write_text(batch["caption"][0] + "\n", "utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    make_pairs(parse(MakePairs, __doc__, argv))


if __name__ == "__main__":
    run(main)
