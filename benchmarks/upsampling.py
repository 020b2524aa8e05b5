"""The second stage on this machine: seconds for a large picture from a caption, and the memory that tiles take.

python benchmarks/upsampling.py --upsampler runs/shapes-upsampler
python benchmarks/upsampling.py --upsampler random --repeats 1

"random" is the preset shapes-upsampler with random weights, which takes as long.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from benchmarks.measure.machine import Memory
from glide.diffusion.samplers.registry import DEFAULT_STEPS
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import DEFAULT_CONFIG, Upscaler
from upsampler.presets import UPSAMPLERS
from upsampler.tiling import in_tiles

CAPTION = "a large red circle to the left of a small blue square"
PEAK_STEPS = "2"  # memory is the same at each step


@dataclass(frozen=True)
class Upsampling:
    """The flags."""

    model: str = "shapes"
    upsampler: str = "shapes"
    """A folder, an embedded name, or random."""
    steps: int = DEFAULT_STEPS
    """Steps of the base model."""
    scale: float = 3.0
    dtype: DType = AUTO
    device: str = "auto"
    repeats: int = 5
    sides: tuple[int, int] = (64, 256)
    """Pictures whose enlargement's peak memory is compared."""


def load(name: str, device: str, dtype: str) -> Upscaler:
    if name != "random":
        return Upscaler.load(name, device, dtype)
    model = Model(replace(UPSAMPLERS["shapes-upsampler"], text=None))
    return Upscaler(Pipeline(model, name, dtype, 1, wrap=in_tiles), DEFAULT_CONFIG)


def peak(args: Upsampling, side: int) -> float:
    """Peak memory, in MB, of a process that enlarges one picture of that side, its networks loaded."""
    memory = Memory(torch.device("cpu"))  # the process's, also where a GPU draws
    stage = load(args.upsampler, args.device, args.dtype)
    stage = replace(stage, settings=replace(stage.settings, respacing=PEAK_STEPS))
    memory.loaded()
    stage.enlarged(torch.zeros(side, side, 3, dtype=torch.uint8), ImageRequest(0))
    found = memory.done()
    return (found.loading if found.drawing is None else found.drawing) / 1e6


def main() -> None:
    args = parse(Upsampling, __doc__)
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype)
    stage = load(args.upsampler, args.device, args.dtype)
    settings = SamplingConfig("ddim", str(args.steps), guidance="cfg", scale=args.scale)
    picture = ImageRequest(0, CAPTION)
    drawn, enlarged = [], []
    for _ in range(args.repeats + 1):
        start = time.perf_counter()
        *_, last = pipe.draw([picture], settings)
        small = to_uint8(last.x)[0]
        between = time.perf_counter()
        stage.enlarged(small, picture)
        drawn.append(between - start)
        enlarged.append(time.perf_counter() - between)
    print(f"{torch.__version__}, {pipe.device}, {torch.get_num_threads()} threads, {pipe.dtype}")
    first, second = median(drawn[1:]), median(enlarged[1:])
    print(
        f"{args.model}, {args.steps} steps: {first:.2f} s; {args.upsampler}, {stage.steps} steps: {second:.2f} s; "
        f"together {first + second:.2f} s a picture"
    )
    context = multiprocessing.get_context("spawn")
    peaks = []
    for side in args.sides:
        with context.Pool(1) as pool:  # a process of its own, so that nothing is left of the one before
            peaks.append(pool.apply(peak, (args, side)))
        print(f"{side} to {side * stage.scale}: at most {peaks[-1]:.0f} MB")
    print(f"the larger one takes {peaks[-1] / peaks[0]:.2f} times the memory")


if __name__ == "__main__":
    run(main)
