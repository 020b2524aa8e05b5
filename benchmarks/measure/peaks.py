"""The machine's peak, measured: a large 3x3 convolution and a large matrix product in each type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from benchmarks.measure.machine import Clock, begin
from benchmarks.measure.plan import Plan
from glide.utils.dtype import slowdown
from glide.utils.hardware import measured_peak

CONVOLUTIONS = {  # (N, C, H = W)
    "tiny": [(1, 32, 16)],
    "cpu": [(4, 512, 32), (4, 256, 64)],
    "cuda": [(64, 512, 64), (64, 1024, 32), (16, 256, 256)],
}
MATRICES = {"tiny": [64], "cpu": [2048, 4096], "cuda": [8192, 16384]}  # rows and columns
SHORT = 512  # rows and columns of a product in a slow type
RUNS = {"tiny": 2, "cpu": 10, "cuda": 20}


@dataclass(frozen=True)
class Peaks:
    """FLOP/s by the name of a type."""

    convolution: dict[str, float] = field(default_factory=dict)
    matmul: dict[str, float] = field(default_factory=dict)

    def best(self, other: Peaks) -> Peaks:
        """The higher of two measurements, number by number: what else the machine did can only have hidden it."""
        return Peaks(_higher(self.convolution, other.convolution), _higher(self.matmul, other.matmul))


def _higher(one: dict[str, float], other: dict[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}}


def measure_peaks(plan: Plan, names: Sequence[str]) -> Peaks:
    """The best of several runs of several shapes, for the types of these names.

    Of one that the device has no units for, a short run: its peak is far below the others', and not waited for.
    """
    device = begin(plan)
    kind = "tiny" if plan.size == "tiny" else "cuda" if device.type == "cuda" else "cpu"
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True  # the fastest kernel for each shape, not the likeliest
    peaks = Peaks()
    for name in names:
        dtype: torch.dtype = getattr(torch, name)
        with torch.inference_mode():
            if slowdown(device, dtype) > 1:
                peaks.convolution[name] = measured_peak(device, name)
                peaks.matmul[name] = _matmul(SHORT, dtype, device, 1, plan.seed)
                continue
            peaks.convolution[name] = max(
                _convolution(*shape, dtype, device, RUNS[kind], plan.seed) for shape in CONVOLUTIONS[kind]
            )
            peaks.matmul[name] = max(
                _matmul(side, dtype, device, RUNS[kind], plan.seed) for side in MATRICES[kind]
            )
    return peaks


def _convolution(
    n: int, channels: int, side: int, dtype: torch.dtype, device: torch.device, runs: int, seed: int
) -> float:
    generator = torch.Generator(device).manual_seed(seed)
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(n, channels, side, side, device=device, generator=generator).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    return 2 * 9 * channels**2 * n * side**2 / _fastest(lambda: conv(x), device, runs)


def _matmul(side: int, dtype: torch.dtype, device: torch.device, runs: int, seed: int) -> float:
    generator = torch.Generator(device).manual_seed(seed)
    a, b = (torch.randn(side, side, device=device, generator=generator).to(dtype) for _ in range(2))
    return 2 * side**3 / _fastest(lambda: a @ b, device, runs)


def _fastest(f: Callable[[], object], device: torch.device, runs: int) -> float:
    """Seconds of the fastest of so many runs, after two to warm up."""
    clock = Clock(device)
    for _ in range(2):
        f()
    clock.mark()
    for _ in range(runs):
        f()
        clock.mark()
    return min(clock.seconds())
