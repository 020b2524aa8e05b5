"""What operations in one go (glide/networks/cpu/fused.py) save on a CPU: PyTorch's and ours in turn, in one run.

python benchmarks/fused.py
python benchmarks/fused.py --dtype float32 --model shapes --batch-size 2
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor

from benchmarks.measure.machine import timed
from glide.networks.cpu import fused
from glide.networks.cpu.allocator import keep_freed_memory
from glide.networks.cpu.dispatch import self_attention
from glide.networks.image_request import ImageRequest
from glide.networks.layers import GroupNorm
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType, find_dtype
from glide.utils.errors import InputError
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

CPU = torch.device("cpu")
STEPS = 10  # so many that what comes before the first is little beside them
SHAPES = [(16, 64, 16), (16, 128, 8), (2, 768, 8), (2, 384, 32), (1, 192, 256)]
"""Pictures, channels and side: of the embedded base in calls of 16, of GLIDE's base with guidance and its upsampler."""
SEQUENCES = [(16, 4, 32, 64, 0), (16, 4, 32, 16, 32), (2, 12, 64, 64, 128), (2, 8, 64, 256, 128)]
"""Pictures, heads, their width, tokens, and tokens told: of the embedded models, and of GLIDE's base."""


@dataclass(frozen=True)
class Fused:
    """What is measured."""

    model: str = "shapes"
    batch_size: int = 16
    dtype: DType = AUTO
    repeats: int = 21


def main() -> None:
    args = parse(Fused, __doc__)
    for flag in ("batch_size", "repeats"):
        if getattr(args, flag) < 1:
            raise InputError(
                f"--{flag.replace('_', '-')} {getattr(args, flag)}: expected at least 1: give more"
            )
    if fused.library() is None:
        raise InputError(
            "got an installation without the C of glide/networks/cpu/fused.py, expected it compiled: install GCC 12 or "
            "newer, then this package again"
        )
    dtype = find_dtype(args.dtype, CPU)
    keep_freed_memory(CPU, 2**30)  # as drawing and training have it
    print(f"{torch.__version__}, {torch.get_num_threads()} threads, {dtype}")
    for shape in SHAPES:
        for name, layer in {"draw": drawn, "train": trained}.items():
            compare(args, f"{name}: norm, scale, shift, SiLU of {list(shape)}", layer(shape, dtype))
    for sequence in SEQUENCES:
        compare(args, f"train: attention {list(sequence)}", attending(sequence, dtype))
    compare(args, f"{STEPS} steps of {args.model}, {args.batch_size} pictures", steps_of(args))


def compare(args: Fused, name: str, f: Callable[[], object]) -> None:
    """Print the medians of both, and how many times as long PyTorch's takes."""
    taken: tuple[list[float], list[float]] = ([], [])
    for repeat in range(args.repeats + 1):
        for there, seconds in zip(
            (False, True), taken, strict=True
        ):  # in turn: a machine that slows down slows both
            with patch.object(fused, "library", fused.library if there else lambda: None):
                elapsed = timed(f, CPU)
            if repeat:  # the first warms up
                seconds.append(elapsed)
    plain, ours = map(median, taken)
    print(f"{name:52} {1e6 * plain:9.0f} us {1e6 * ours:9.0f} us {plain / ours:6.2f} times")


def given(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[GroupNorm, Tensor, Tensor]:
    n, c, side = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, side, side, generator=generator).to(dtype)
    told = torch.randn(n, 2 * c, 1, 1, generator=generator).to(dtype)
    return GroupNorm(c), x.contiguous(memory_format=torch.channels_last), told


def drawn(shape: tuple[int, int, int], dtype: torch.dtype) -> Callable[[], object]:
    norm, x, told = given(shape, dtype)
    scale, shift = told.chunk(2, dim=1)

    def draw() -> None:
        with torch.inference_mode():
            norm(x, (scale, shift), silu=True)

    return draw


def trained(shape: tuple[int, int, int], dtype: torch.dtype) -> Callable[[], object]:
    norm, x, told = given(shape, dtype)
    parameters = [x.requires_grad_(), told.requires_grad_(), *norm.parameters()]
    gradient = torch.ones_like(x)

    def train() -> None:
        scale, shift = told.chunk(2, dim=1)
        torch.autograd.grad(norm(x, (scale, shift), silu=True), parameters, gradient)

    return train


def attending(sequence: tuple[int, int, int, int, int], dtype: torch.dtype) -> Callable[[], object]:
    n, heads, width, tokens, told = sequence
    generator = torch.Generator().manual_seed(0)
    qkv, kv = (
        torch.randn(n, length, parts * heads * width, generator=generator).to(dtype).requires_grad_()
        for length, parts in ((tokens, 3), (told, 2))
    )
    given = [qkv, kv] if told else [qkv]
    gradient = torch.ones(n, tokens, heads * width, dtype=qkv.dtype)

    def train() -> None:
        torch.autograd.grad(self_attention(qkv, heads, kv if told else None), given, gradient)

    return train


def steps_of(args: Fused) -> Callable[[], object]:
    pipe = Pipeline.from_pretrained(args.model, CPU, args.dtype, call_size=args.batch_size)
    caption = "a red ring" if pipe.model.config.text is not None else ""
    rows = [ImageRequest(i, caption) for i in range(args.batch_size)]
    return lambda: list(pipe.draw(rows, SamplingConfig("ddim", str(STEPS), 0.0, "none")))


if __name__ == "__main__":
    run(main)
