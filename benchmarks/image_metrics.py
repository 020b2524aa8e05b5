"""The sense of each figure of pictures: true scenes, and the same blurred, noised, repeated, memorised or in outlines.

python benchmarks/image_metrics.py --features efficientnet-lite0 --pictures 300
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from glide.shapes.dataset import Shapes, render
from glide.utils.cli import parse, run
from glide.utils.device import find_device
from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.comparison import Comparison, Sets, compare
from toolkit.evaluation.extraction import Extracted, extract
from toolkit.evaluation.feature_cache import FeatureCache
from toolkit.evaluation.features import features_named
from toolkit.evaluation.image_evaluation import Figure
from toolkit.evaluation.memorisation import EXPECTED
from toolkit.evaluation.picture_sets import PictureArray

Pictures = NDArray[np.uint8]
NOISE = 10.0
"""Standard deviation, of 255."""
REPEATED = 8
SHOWN = ("frechet_distance", "kernel_distance", "cmmd", "sliced_wasserstein")
SHOWN += ("precision", "recall", "density", "coverage")
FACTOR = {"kernel_distance": 1000.0}


@dataclass(frozen=True)
class ImageMetrics:
    """The flags."""

    features: tuple[str, ...] = ("efficientnet-lite0",)
    pictures: int = 300
    """In each set: training pictures, held-out ones, and each kind of generated ones."""
    image_size: int = 64
    resamples: int = 200
    seed: int = 0
    device: str = "cpu"


def scenes(split: str, seed: int, count: int, size: int) -> Pictures:
    """Built-in scenes, uint8 [N,H,W,3]."""
    return render(Shapes(seed, size, split=split).scenes(0, count), size)


def each(pictures: Pictures, change: ImageFilter.Filter) -> Pictures:
    return np.stack([np.asarray(Image.fromarray(one).filter(change)) for one in pictures])


def kinds(true: Pictures, training: Pictures, seed: int) -> dict[str, Pictures]:
    """The sets by name, uint8 [N,H,W,3] each."""
    rng = np.random.default_rng(seed)
    noised = true + rng.normal(0, NOISE, true.shape)
    return {
        "true": true,
        "blurred by 1 pixel": each(true, ImageFilter.GaussianBlur(1)),
        "blurred by 2 pixels": each(true, ImageFilter.GaussianBlur(2)),
        "noised": noised.round().clip(0, 255).astype(np.uint8),
        f"{REPEATED} pictures repeated": true[np.arange(len(true)) % REPEATED],
        "memorised": training,
        "another style: outlines": each(true, ImageFilter.FIND_EDGES()),
    }


def measure(args: ImageMetrics, name: str, cache: Path) -> dict[str, Comparison]:
    """The comparison of each set with the training pictures, in the features of that name."""
    features = features_named(name, find_device(args.device))
    n, size = args.pictures, args.image_size
    training, held_out = scenes("train", args.seed, n, size), scenes("held_out", args.seed, n, size)
    true = scenes("held_out", args.seed + 1, n, size)
    kept = FeatureCache(cache, features)

    def extracted(of: Pictures, called: str) -> tuple[PictureArray, Extracted]:
        pictures = PictureArray(called, of)
        return pictures, extract(pictures, features, kept)

    data, own = extracted(training, "training")
    new, real = extracted(held_out, "held out")
    found = {}
    for called, pictures in kinds(true, training, args.seed).items():
        generated, rows = extracted(pictures, called)
        sets = Sets(generated, data, new)
        found[called] = compare(sets, features, rows, own, real, args.resamples, args.seed)
    return found


def worse(one: Figure, true: Figure) -> bool:
    """True where the whole interval is on the bad side of that of true pictures."""
    a, b = one.generated, true.generated
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return False
    return a.low > b.high if one.better == "lower" else a.high < b.low


def table(found: dict[str, Comparison]) -> str:
    """Markdown: a row for each set, a column for each figure; bold where the figure sees the change."""
    true = {one.name: one for one in found["true"].figures}
    names = [name for name in SHOWN if name in true]
    heads = [true[name].label + (" x 1000" if name in FACTOR else "") for name in names]
    lines = ["| pictures | " + " | ".join([*heads, "memorised, %"]) + " |", "|---" * (len(names) + 2) + "|"]
    for called, comparison in found.items():
        figures = {one.name: one for one in comparison.figures}
        cells = [
            _cell(figures[name].generated, FACTOR.get(name, 1.0), worse(figures[name], true[name]))
            for name in names
        ]
        assert comparison.copies is not None
        near = comparison.copies.near
        cells.append(_cell(near, 100.0, near.low is not None and near.low > EXPECTED))
        lines.append(f"| {called} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(one: Estimate, factor: float, bold: bool) -> str:
    low, high = (factor * (one.value if end is None else end) for end in (one.low, one.high))
    text = f"{factor * one.value:.3g} ({low:.3g} to {high:.3g})"
    return f"**{text}**" if bold else text


def main() -> None:
    args = parse(ImageMetrics, __doc__)
    with TemporaryDirectory() as cache:
        for name in args.features:
            print(
                f"{name}, {args.pictures} pictures a set\n\n{table(measure(args, name, Path(cache)))}\n",
                flush=True,
            )


if __name__ == "__main__":
    run(main)
