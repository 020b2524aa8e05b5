"""Compare the CPU kernels of glide/networks/cpu with PyTorch's operations: fused norms and attention, packed weights.

Both are timed in turn, in one process. A ratio above 1 means that PyTorch's operations take longer.

python benchmarks/fused.py
python benchmarks/fused.py --dtype float32 --model shapes --batch-size 2
OMP_NUM_THREADS=1 python benchmarks/fused.py --cpu-time
ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/fused.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn

from benchmarks.measure.machine import timed
from glide.networks.cpu import fused, prepacked
from glide.networks.cpu.allocator import keep_freed_memory
from glide.networks.cpu.dispatch import self_attention
from glide.networks.image_request import ImageRequest
from glide.networks.layers import GroupNorm
from glide.utils.cli import parse, run
from glide.utils.dtype import AUTO, DType, find_dtype
from glide.utils.errors import InputError
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

Work = Callable[[], object]

CPU = torch.device("cpu")
STEPS = 10  # so many that the work before the first step is small beside them
SHAPES = [(16, 64, 16), (16, 128, 8), (2, 768, 8), (2, 384, 32), (1, 192, 256)]
"""Pictures, channels and side: of the embedded base in calls of 16, of GLIDE's base with guidance and its upsampler."""
SEQUENCES = [(16, 4, 32, 64, 0), (16, 4, 32, 16, 32), (2, 12, 64, 64, 128), (2, 6, 64, 1024, 128)]
"""Pictures, heads, their width, tokens, and context tokens: of the embedded models, and of GLIDE's base."""
SHARP = 8.0  # standard deviation of queries and keys: a trained network's attention is to few tokens
CONVOLUTIONS = [(1, 768, 8), (2, 768, 8), (1, 576, 16), (1, 128, 8), (1, 192, 64), (16, 64, 16)]
"""Pictures, channels and side, from the deep levels of GLIDE's base to the embedded models'."""


@dataclass(frozen=True)
class Fused:
    """Settings of the measurement."""

    model: str = "shapes"
    batch_size: int = 16
    dtype: DType = AUTO
    repeats: int = 21
    cpu_time: bool = False
    """Count the time that this process computes, with one thread on a busy machine."""


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
    keep_freed_memory(CPU, 2**30)  # as sampling and training do
    level = torch.backends.cpu.get_cpu_capability()
    clock = "processor time" if args.cpu_time else "elapsed time"
    print(f"{torch.__version__}, {level}, {torch.get_num_threads()} threads, {dtype}, {clock}")
    for shape in SHAPES:
        for name, layer in {"sample": norm_forward, "train": norm_backward}.items():
            compare(args, f"{name}: norm, scale, shift, SiLU of {list(shape)}", *with_c(layer(shape, dtype)))
    for sequence in SEQUENCES:
        for name, layer in {"sample": attention_forward, "train": attention_backward}.items():
            compare(args, f"{name}: attention {list(sequence)}", *with_c(layer(sequence, dtype)))
    for shape in CONVOLUTIONS:
        if prepacked.packable(nn.Conv2d(1, 1, 1, dtype=dtype)):
            compare(args, f"sample: 3x3 convolution of {list(shape)}, packed", *convolutions(shape, dtype))
    steps = f"{STEPS} steps of {args.model}, {args.batch_size} pictures"
    compare(args, f"{steps}: fused kernels", *with_c(sampling(args)))
    with patch.object(prepacked, "packable", lambda layer: False):
        plain = sampling(args)
    compare(args, f"{steps}: packed weights", plain, sampling(args))


def compare(args: Fused, name: str, plain: Work, ours: Work) -> None:
    """Print the fastest times of both, and their ratio: what else runs on the machine makes some runs slower."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(args.repeats + 1):
        for work, seconds in zip((plain, ours), times, strict=True):  # in turn: a slower machine slows both
            elapsed = cpu_seconds(work) if args.cpu_time else timed(work, CPU)
            if repeat:  # the first warms up
                seconds.append(elapsed)
    theirs, mine = map(min, times)
    print(f"{name:52} {1e6 * theirs:9.0f} us {1e6 * mine:9.0f} us {theirs / mine:6.2f} times")


def cpu_seconds(work: Work) -> float:
    """Seconds of processor time of this process."""
    start = time.process_time()
    work()
    return time.process_time() - start


def with_c(work: Work) -> tuple[Work, Work]:
    """The same work without and with the kernels in C."""

    def without() -> None:
        with patch.object(fused, "library", lambda: None):
            work()

    return without, work


def norm_inputs(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[GroupNorm, Tensor, Tensor]:
    """A norm, activations [N,C,H,W], and scale and shift in one tensor [N,2C,1,1]."""
    n, c, side = shape
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, c, side, side, generator=generator).to(dtype)
    scale_shift = torch.randn(n, 2 * c, 1, 1, generator=generator).to(dtype)
    return GroupNorm(c), x.contiguous(memory_format=torch.channels_last), scale_shift


def norm_forward(shape: tuple[int, int, int], dtype: torch.dtype) -> Work:
    """An adaptive group norm with SiLU."""
    norm, x, scale_shift = norm_inputs(shape, dtype)
    scale, shift = scale_shift.chunk(2, dim=1)

    def work() -> None:
        with torch.inference_mode():
            norm(x, (scale, shift), silu=True)

    return work


def norm_backward(shape: tuple[int, int, int], dtype: torch.dtype) -> Work:
    """An adaptive group norm with SiLU, and its gradients."""
    norm, x, scale_shift = norm_inputs(shape, dtype)
    parameters = [x.requires_grad_(), scale_shift.requires_grad_(), *norm.parameters()]
    gradient = torch.ones_like(x)

    def work() -> None:
        scale, shift = scale_shift.chunk(2, dim=1)
        torch.autograd.grad(norm(x, (scale, shift), silu=True), parameters, gradient)

    return work


def attention_inputs(
    sequence: tuple[int, int, int, int, int], dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """qkv [N,L,3C], and keys and values of the context [N,T,2C]."""
    n, heads, width, tokens, context = sequence
    generator = torch.Generator().manual_seed(0)
    qkv, context_kv = (
        (SHARP * torch.randn(n, length, parts * heads * width, generator=generator)).to(dtype)
        for length, parts in ((tokens, 3), (context, 2))
    )
    return qkv, context_kv if context else None


def attention_forward(sequence: tuple[int, int, int, int, int], dtype: torch.dtype) -> Work:
    """Attention alone."""
    qkv, context_kv = attention_inputs(sequence, dtype)

    def work() -> None:
        with torch.inference_mode():
            self_attention(qkv, sequence[1], context_kv)

    return work


def attention_backward(sequence: tuple[int, int, int, int, int], dtype: torch.dtype) -> Work:
    """Attention and its gradients."""
    n, heads, width, tokens, _ = sequence
    qkv, context_kv = attention_inputs(sequence, dtype)
    inputs = [x.requires_grad_() for x in (qkv, context_kv) if x is not None]
    gradient = torch.ones(n, tokens, heads * width, dtype=qkv.dtype)

    def work() -> None:
        torch.autograd.grad(self_attention(qkv, heads, context_kv), inputs, gradient)

    return work


def convolutions(shape: tuple[int, int, int], dtype: torch.dtype) -> tuple[Work, Work]:
    """A 3x3 convolution with plain and with packed weights."""
    n, c, side = shape
    x = torch.randn(n, c, side, side, generator=torch.Generator().manual_seed(0)).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    plain = nn.Conv2d(c, c, 3, padding=1, dtype=dtype).requires_grad_(False)
    plain.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    packed = prepacked.PackedConv2d(plain)
    packed(x)
    packed.reorder()
    return lambda: plain(x), lambda: packed(x)


def sampling(args: Fused) -> Work:
    """Sampling a batch of pictures, by a pipeline of its own."""
    pipe = Pipeline.from_pretrained(args.model, CPU, args.dtype, call_size=args.batch_size)
    caption = "a red ring" if pipe.model.config.reads_captions else ""
    requests = [ImageRequest(i, caption) for i in range(args.batch_size)]
    return lambda: list(pipe.draw(requests, SamplingConfig("ddim", str(STEPS), 0.0, "none")))


if __name__ == "__main__":
    run(main)
