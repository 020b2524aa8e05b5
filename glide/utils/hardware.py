"""What the machine gives: its measured peak, the arithmetic of a network on it, memory in use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

ENOUGH = 0.005  # seconds that one measured run takes at least


@torch.no_grad()
def measured_peak(device: torch.device, dtype: str) -> float:
    """FLOP/s of a 3x3 convolution of 256 channels: the best of several runs, of a batch that keeps the device busy.

    Takes some tens of milliseconds. An ideal that no network reaches: it has nothing but convolutions of one good size.
    """
    of = getattr(torch, dtype)
    conv = nn.Conv2d(256, 256, 3, padding=1).to(device, of)
    conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    best, batch = 0.0, 1
    while True:
        x = torch.ones(batch, 256, 16, 16, device=device, dtype=of)
        x = x.contiguous(memory_format=torch.channels_last)
        work = 2 * 9 * 256 * 256 * 16 * 16 * batch
        seconds = min(timed(lambda: conv(x), device) for _ in range(4))
        best = max(best, work / seconds)
        if seconds >= ENOUGH or batch >= 1024:
            return best
        batch *= 4


def timed(f: Callable[[], object], device: torch.device) -> float:
    """Seconds that f takes, also where the device works behind Python's back."""
    wait(device)
    start = time.perf_counter()
    f()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def flops_of(forward: Callable[[], object]) -> float:
    """Of a training step whose forward pass this is: the backward pass of convolutions and matrices is two more."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward()
    return 3.0 * counter.get_total_flops()


def memory_in_use(device: torch.device) -> float:
    """The most memory that was taken so far, in GiB: of the GPU, or else of this process. 0 where nobody can tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
