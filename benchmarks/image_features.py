"""Features of pictures from shards: their rate beside the network's own, and the memory that grows with the set.

python benchmarks/image_features.py --pictures 2000 --threads 1

The network's own rate is that of batches that are there already. Rounds of both alternate. Time of the processor is
given beside that of the clock, as other work on the machine moves the latter.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from data_loading import jpegs

from benchmarks.measure.machine import Memory
from glide.data.shards.writer import Sample, write_shards
from glide.utils.cli import parse, run
from glide.utils.device import find_device
from toolkit.evaluation.extraction import Extracted, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import Features, features_named
from toolkit.evaluation.picture_sets import open_pictures


@dataclass(frozen=True)
class ImageFeatures:
    """The flags."""

    features: str = "efficientnet-lite0"
    pictures: int = 2000
    side: int = 256
    """Height and width of the JPEGs."""
    different: int = 100
    """Number of different pictures, which are then repeated."""
    batch_size: int = 32
    rounds: int = 4
    """Parts of the set, one round each."""
    threads: int = 1
    """Of the network."""
    device: str = "cpu"


def samples(args: ImageFeatures) -> Iterator[Sample]:
    files = jpegs(args.different, args.side)
    for number in range(args.pictures):
        # bytes behind the end of a JPEG: another file, the same picture
        yield f"{number:06}", {"jpg": files[number % len(files)] + b"%d" % number, "txt": b"picture"}


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def alone(features: Features, args: ImageFeatures, count: int) -> None:
    """The network on pictures that are there."""
    planes = (
        np.random.default_rng(0).random((args.batch_size, 3, features.size, features.size), np.float32) * 255
    )
    for _ in range(0, count, args.batch_size):
        features(planes)


def measure(args: ImageFeatures, place: Path) -> dict[str, float]:
    """Write shards, measure, print; returns the figures."""
    torch.set_num_threads(args.threads)
    features = features_named(args.features, find_device(args.device))
    per_shard = -(-args.pictures // args.rounds)
    write_shards(place / "shards", samples(args), per_shard)
    alone(features, args, args.batch_size)
    memory = Memory(features.device)
    memory.loaded()
    own, whole, peaks = np.zeros(2), np.zeros(2), []
    cache = FeatureCache(place / "cache", features)

    def first(parts: int) -> Extracted:
        shards = place / "shards" / f"{{00000..{parts - 1:05}}}.tar"
        return extract(open_pictures(str(shards)), features, cache, args.batch_size)

    for part in range(1, args.rounds + 1):  # of which all but the last part is in the cache
        own += timed(lambda: alone(features, args, per_shard))
        whole += timed(lambda: first(part))
        peaks.append(memory.done().drawing or 0)
    again = timed(lambda: first(args.rounds))[0] / args.pictures
    clock, processor = own / whole
    n = args.pictures / 1000
    print(
        f"{args.pictures} JPEGs of {args.side}x{args.side}, {args.features}, {args.threads} threads, {args.device}"
    )
    print(f"network alone {own[0] / n:.1f} ms a picture, {own[1] / n:.1f} of the processor")
    print(f"from shards   {whole[0] / n:.1f} ms a picture, {whole[1] / n:.1f} of the processor")
    print(f"rate: {clock:.2f} of the network's own by the clock, {processor:.2f} by the processor's time")
    print(f"peak of memory after each part, MiB: {', '.join(f'{peak / 2**20:.0f}' for peak in peaks)}")
    print(f"all from the cache: {1000 * again:.2f} ms a picture")
    return {"clock": clock, "processor": processor, "grown": peaks[-1] - peaks[0], "again": again}


def main() -> None:
    args = parse(ImageFeatures, __doc__)
    with tempfile.TemporaryDirectory() as place:
        measure(args, Path(place))


if __name__ == "__main__":
    run(main)
