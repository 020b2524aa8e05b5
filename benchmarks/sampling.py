"""Seconds per picture of a model on this machine, beside the machine's own peak, measured in the same run.

python benchmarks/sampling.py --model shapes --batch-size 16
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch.utils.flop_counter import FlopCounterMode

from glide.cli import parse, run
from guidance.conditions import Picture
from guidance.pipeline import Pipeline
from guidance.runtime import DTYPES
from guidance.settings import Settings


@dataclass(frozen=True)
class Sampling:
    """What is measured."""

    model: str = "shapes"
    batch_size: int = 16
    steps: int = 50
    scale: float = 3.0
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "auto"
    repeats: int = 5


def main() -> None:
    args = parse(Sampling, __doc__)
    pipe = Pipeline.from_pretrained(args.model, args.device, args.dtype, call_size=args.batch_size)
    guidance = "cfg" if pipe.conditions.has_null else "none"
    settings = Settings("ddim", str(args.steps), 0.0, guidance, args.scale)
    pictures = [
        Picture(i, "a large red circle to the left of a small blue square") for i in range(args.batch_size)
    ]

    def draw() -> None:
        for _ in pipe.draw(pictures, settings):
            pass

    with FlopCounterMode(display=False) as counter:
        draw()
    work = counter.get_total_flops()
    peak = conv_peak(DTYPES[args.dtype], pipe.device)
    seconds = median(timed(draw) for _ in range(args.repeats))
    rate = work / seconds
    print(f"{torch.__version__}, {pipe.device}, {torch.get_num_threads()} threads, {args.dtype}")
    print(f"convolution peak: {peak / 1e9:.0f} GFLOP/s")
    print(
        f"{args.model}: batch {args.batch_size}, {args.steps} steps, {guidance} {args.scale:g}: "
        f"{seconds / args.batch_size:.3f} s a picture, {rate / 1e9:.0f} GFLOP/s, {rate / peak:.0%} of the peak"
    )


def conv_peak(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of a large 3x3 convolution: the best of several runs."""
    conv = torch.nn.Conv2d(512, 512, 3, padding=1).to(device, dtype, memory_format=torch.channels_last)
    x = torch.randn(4, 512, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    work = 2 * 9 * 512 * 512 * 4 * 32 * 32
    with torch.inference_mode():
        return work / min(timed(lambda: conv(x)) for _ in range(20))


def timed(f: Callable[[], object]) -> float:
    start = time.perf_counter()
    f()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


if __name__ == "__main__":
    run(main)
