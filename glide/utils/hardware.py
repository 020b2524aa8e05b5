"""Measure the machine: its peak performance, a network's operations, and memory in use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import nn

MIN_SECONDS = 0.005  # least duration of one measured run


@torch.no_grad()
def measured_peak(device: torch.device, dtype: str) -> float:
    """FLOP/s of a 3x3 convolution of 256 channels: the best of several runs, with a batch that keeps the device busy.

    Takes tens of milliseconds. No network reaches it, as it is made of convolutions of one favourable size alone.
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
        if seconds >= MIN_SECONDS or batch >= 1024:
            return best
        batch *= 4


def timed(f: Callable[[], object], device: torch.device) -> float:
    """Seconds that f takes, also on a device that works asynchronously."""
    wait(device)
    start = time.perf_counter()
    f()
    wait(device)
    return time.perf_counter() - start


def wait(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@torch.no_grad()
def flops_of(forward: Callable[[], object]) -> float:
    """FLOPs of a training step with this forward pass: the backward pass of its products takes twice as many."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        forward()
    return 3.0 * counter.get_total_flops()


def memory_in_use(device: torch.device) -> float:
    """Peak memory so far, in GiB: of the GPU, or else of this process. 0 if it is unknown."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return 0.0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
