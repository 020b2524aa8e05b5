"""A model trained on 100 pictures until it repeats them: memorisation is found, and not of pictures that it never saw.

python benchmarks/memorisation.py --out runs/memorisation
python benchmarks/memorisation.py --out runs/memorisation --model runs/memorisation/model    # trained already

200 built-in scenes of one thing are written, and a small model learns the half that is not held out. Its pictures are
then compared with that half, with the held-out half in its place, and new scenes are compared with what was learned.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from PIL import Image

from glide.shapes.dataset import Shapes, render
from glide.utils.cli import parse, run
from glide.utils.device import find_device
from glide.utils.images import save_png
from toolkit.commands.train_base import train
from toolkit.commands.train_base_flags import parse as train_flags
from toolkit.evaluation.drawn_pictures import draw_into, requests_of
from toolkit.evaluation.extraction import extract
from toolkit.evaluation.features import features_named
from toolkit.evaluation.memorisation import memorisation
from toolkit.evaluation.picture_sets import PictureSet, open_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

SEED, SIDE = 11, 32


@dataclass(frozen=True)
class Memorised:
    """The flags."""

    out: Path
    model: str | None = None
    """A model that was trained by an earlier call; else one is trained, in --out/model."""
    scenes: int = 200
    """Half of them is learned."""
    steps: int = 6000
    pictures: int = 100
    """Drawn, and new scenes."""
    features: tuple[str, ...] = ("noisy-clip:shapes-clip", "efficientnet-lite0")
    device: str = "cpu"


def write_scenes(folder: Path, count: int, seed: int) -> Path:
    """Scenes of one thing as PNGs."""
    scenes = Shapes(seed, SIDE, kinds=("one",)).scenes(0, count)
    for number, pixels in enumerate(render(scenes, SIDE)):
        save_png(folder / f"{number:03}.png", Image.fromarray(np.asarray(pixels)))
    return folder


def learned(args: Memorised, data: Path) -> str:
    """The folder of a model that was trained on the half of the data that is not held out."""
    if args.model is not None:
        return args.model
    flags = f"--data {data} --unconditional --held-out 0.5 --preset tiny --batch-size 32 --lr 0.001 --muon-lr 0.02"
    flags += f" --warmup 50 --steps {args.steps} --sample-every {args.steps} --out {args.out / 'model'}"
    train(*train_flags(flags.split(), None))
    return str(args.out / "model")


def measure(args: Memorised) -> dict[str, dict[str, bool]]:
    """Write, train, draw, print; returns by features and by pair of sets if memorisation is found."""
    data = write_scenes(args.out / "scenes", args.scenes, SEED)
    fresh = write_scenes(args.out / "new", args.pictures, SEED + 1)
    pipe = Pipeline.from_pretrained(learned(args, data), find_device(args.device))
    size = pipe.model.config.picture_size
    halves = [open_pictures(str(data), split=split, share=0.5, size=size) for split in ("train", "held_out")]
    requests = requests_of(pipe, halves[0], args.pictures, 0)
    drawn = draw_into(args.out / "drawn", pipe, requests, SamplingConfig(guidance="none"), 32)
    sets: tuple[PictureSet, ...] = (drawn, *halves, open_pictures(str(fresh), size=size))
    found: dict[str, dict[str, bool]] = {}
    for name in args.features:
        features = features_named(name, find_device(args.device))
        g, t, h, n = (extract(one, features).features for one in sets)
        cases = {
            "drawn, beside what was learned": memorisation(g, t, h),
            "drawn, beside the held-out half": memorisation(g, h, n),
            "new scenes, beside what was learned": memorisation(n, t, h),
        }
        found[name] = {case: one.found for case, one in cases.items()}
        for case, one in cases.items():
            said = "found" if one.found else "not found"
            print(f"{name}: {case}: {said}; near {one.near}; nearer than a new picture {one.nearer}")
    return found


if __name__ == "__main__":
    run(lambda: measure(parse(Memorised, __doc__)))
