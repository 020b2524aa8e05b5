"""Pictures per second from shards to ready batches, beside the bare JPEG decoder's rate, measured in the same run.

python benchmarks/data_loading.py --pictures 10000 --workers 2
python benchmarks/data_loading.py --pictures 200 --different 20 --repeats 1 --folder

The bare decoder is Pillow alone, on the same bytes, held in memory, in as many threads: from a JPEG to an array of
pixels, which is thrown away. A loader does that and more: it looks up the order, reads the file, looks for a rotation,
cuts, and makes a batch. "as floats": with what a training step does to a batch, float32 from -1 to 1, on the CPU. The
rounds alternate, and each rate is the median of its rounds.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from PIL import Image

from glide.data.datasets import Dataset, on_device, open_data
from glide.data.prefetch import prefetch
from glide.data.shards.writer import Sample, write_shards
from glide.shapes.dataset import held_out_scenes, render
from glide.utils.cli import parse, run
from glide.utils.errors import InputError


@dataclass(frozen=True)
class DataLoading:
    """The flags."""

    pictures: int = 10_000
    side: int = 256
    """Height and width of the JPEGs, and of the pictures in the batches."""
    small: int = 64
    """Also measured: batches of this size, for which JPEGs need not be decoded in full. 0 to leave it out."""
    different: int = 500
    """Number of different pictures, which are then repeated."""
    workers: int = 2
    batch_size: int = 64
    per_shard: int = 1000
    repeats: int = 3
    folder: bool = False
    """Also measure a folder of the same pictures."""


def main() -> None:
    args = parse(DataLoading, __doc__)
    for name in ("pictures", "side", "different", "workers", "batch_size", "per_shard", "repeats"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: expected at least 1")
    if args.pictures < args.batch_size:
        raise InputError(f"--pictures {args.pictures}: expected at least a batch of {args.batch_size}")
    with tempfile.TemporaryDirectory() as place:
        os.environ["GLIDE_CACHE"] = f"{place}/cache"
        measure(args, Path(place))


def measure(args: DataLoading, place: Path) -> dict[str, float]:
    """Write the data, measure, print; returns the rates, in pictures a second."""
    torch.set_num_threads(1)
    files = jpegs(args.different, args.side)
    write_shards(place / "shards", samples(files, args.pictures), args.per_shard)
    size = sum(map(len, files)) / len(files)
    print(
        f"{args.pictures} JPEGs of {args.side}x{args.side}, {size / 1024:.0f} KB each, in {args.workers} threads; "
        f"Pillow {Image.__version__}, {torch.__version__}"
    )
    spec = str(place / "shards" / "*.tar")
    start = time.perf_counter()
    open_data(spec, args.side)
    print(f"index of the shards: {time.perf_counter() - start:.2f} s, once")
    kinds: dict[str, Callable[[], float]] = {
        "bare decoder": lambda: bare(files, args),
        # opened again each time: a small set would stay in memory
        "shards": lambda: loaded(open_data(spec, args.side), args),
        "as floats": lambda: loaded(open_data(spec, args.side), args, floats=True),
    }
    if args.small:
        kinds[f"shards at {args.small}"] = lambda: loaded(open_data(spec, args.small), args)
    if args.folder:
        for key, content in samples(files, args.pictures):
            for suffix, data in content.items():
                path = place / "folder" / f"{key}.{suffix}"
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
        kinds["folder"] = lambda: loaded(open_data(str(place / "folder"), args.side), args)
    rounds: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(args.repeats):
        for kind, rate in kinds.items():
            rounds[kind].append(rate())
    rates = {kind: median(values) for kind, values in rounds.items()}
    for kind, rate in rates.items():
        print(f"{kind:>14}: {rate:7.0f} pictures/s, {rate / rates['bare decoder']:.2f} of the bare decoder's")
    return rates


def jpegs(count: int, side: int) -> list[bytes]:
    """Pictures as JPEGs see them: built-in scenes on a background with texture of all frequencies."""
    found = []
    for number, scene in enumerate(held_out_scenes(count)):
        rng = np.random.default_rng(number)
        texture = np.zeros((side, side, 3), np.float32)
        for cells in (4, 16, 64, side):
            rough = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
            fine = np.asarray(rough.resize((side, side), Image.Resampling.BICUBIC), np.float32)
            texture += (fine - 128) * 4 / (4 + cells**0.75)
        pixels = np.clip(0.7 * render([scene], side)[0] + 0.6 * texture + 38, 0, 255).astype(np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG", quality=95)  # as img2dataset does
        found.append(file.getvalue())
    return found


def samples(files: Sequence[bytes], count: int) -> Iterator[Sample]:
    for number in range(count):
        yield f"{number:06}", {"jpg": files[number % len(files)], "txt": b"picture %d" % number}


def bare(files: Sequence[bytes], args: DataLoading) -> float:
    """Pictures a second that Pillow alone decodes, in as many threads."""

    def decode(number: int) -> None:
        with Image.open(io.BytesIO(files[number % len(files)]), formats=["JPEG"]) as image:
            np.asarray(image)

    def part(worker: int) -> None:
        for number in range(worker, args.pictures, args.workers):
            decode(number)

    with ThreadPoolExecutor(args.workers) as pool:
        start = time.perf_counter()
        list(pool.map(part, range(args.workers)))
        return args.pictures / (time.perf_counter() - start)


def loaded(data: Dataset, args: DataLoading, floats: bool = False) -> float:
    """Pictures a second that come out of the loader as batches, or are made floats of there."""
    steps = args.pictures // args.batch_size
    batches = prefetch(data, 0, args.batch_size, workers=args.workers)
    start = time.perf_counter()
    for batch in islice(batches, steps):
        if floats:
            on_device(batch, "cpu")
    seconds = time.perf_counter() - start
    batches.close()
    return steps * args.batch_size / seconds


if __name__ == "__main__":
    run(main)
