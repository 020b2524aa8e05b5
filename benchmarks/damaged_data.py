"""Check that training continues through damaged data, and reports exactly how much of it is damaged.

python benchmarks/damaged_data.py --pictures 10000 --share 0.02

Writes shards of JPEGs, of which a share is cut off, empty, no picture, without a caption, or with an empty one; then
trains a tiny model on every picture, and compares what it skipped with what is damaged.
"""

from __future__ import annotations

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from glide.data.shards.writer import Sample, write_shards
from glide.training.config import TrainConfig
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.cli import fail, parse, run
from glide.utils.errors import InputError
from glide.utils.file_locks import check_new_folder

Damage = Callable[[dict[str, bytes]], None]


@dataclass(frozen=True)
class Damaged:
    """The flags."""

    pictures: int = 10_000
    share: float = 0.02
    """Share of the pictures that are damaged."""
    side: int = 64
    batch_size: int = 100
    seed: int = 0
    """Seed of the pictures, and of the choice of damaged ones."""
    out: Path = Path("outputs/damaged-data")


def main() -> None:
    args = parse(Damaged, __doc__)
    if not 0 < args.share * args.pictures <= args.pictures or args.pictures % args.batch_size:
        raise InputError(
            f"got --pictures {args.pictures} --share {args.share} --batch-size {args.batch_size}, expected a share of "
            "at most 1 that is a picture at least, and pictures that fill batches"
        )
    check_new_folder(args.out)
    os.environ["GLIDE_CACHE"] = str(args.out / "cache")
    rng = np.random.default_rng(args.seed)
    wrong = rng.choice(args.pictures, round(args.share * args.pictures), replace=False)
    damages = {int(number): DAMAGES[i % len(DAMAGES)] for i, number in enumerate(wrong)}
    write_shards(args.out / "shards", samples(args, damages), 1000)
    start = time.perf_counter()
    train_base(
        TrainBase(
            args.out / "run",
            data=str(args.out / "shards/*.tar"),
            preset="tiny",
            max_broken=1.0,
            train=TrainConfig(  # twice over, as whole pictures stand in for the damaged ones
                steps=2 * args.pictures // args.batch_size, batch_size=args.batch_size, sample_every=10**9
            ),
        )
    )
    seconds = time.perf_counter() - start
    lines = (args.out / "run/broken.jsonl").read_text().splitlines()
    skipped = {int(Path(json.loads(line)["file"]).stem) for line in lines}
    print(
        f"{args.pictures} pictures, {len(damages)} damaged in {len(DAMAGES)} ways: trained through in {seconds:.0f} s, "
        f"{len(skipped)} skipped, {len(skipped - damages.keys())} of them whole, "
        f"{len(damages.keys() - skipped)} damaged ones not reported"
    )
    if skipped != damages.keys() or len(lines) != len(damages):
        fail("the count is not exact")


def samples(args: Damaged, damages: dict[int, Damage]) -> Iterator[Sample]:
    for number in range(args.pictures):
        files = {"jpg": jpeg(args.seed + number, args.side), "txt": b"picture %d" % number}
        damages.get(number, lambda files: None)(files)
        yield f"{number:06}", files


def jpeg(seed: int, side: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()


def cut_off(files: dict[str, bytes]) -> None:
    files["jpg"] = files["jpg"][: len(files["jpg"]) // 2]


def empty(files: dict[str, bytes]) -> None:
    files["jpg"] = b""


def no_picture(files: dict[str, bytes]) -> None:
    files["jpg"] = b"<html>not found</html>"


def no_caption(files: dict[str, bytes]) -> None:
    del files["txt"]


def empty_caption(files: dict[str, bytes]) -> None:
    files["txt"] = b"\n"


DAMAGES: tuple[Damage, ...] = (cut_off, empty, no_picture, no_caption, empty_caption)


if __name__ == "__main__":
    run(main)
