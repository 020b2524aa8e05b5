"""The machine under the benchmarks: its name, time and memory on it, and a fresh process of it."""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from benchmarks.measure.plan import Plan
from benchmarks.measure.results import Peak
from glide.networks.cpu.fused import library
from glide.utils.device import find_device

T = TypeVar("T")
PACKAGES = ("torch", "numpy", "diffusers", "glide-text2im", "guided-diffusion")


def fresh(f: Callable[..., T], *args: Any) -> T:
    """f(*args) in a new process, so that nothing of another measurement is in its memory.

    f and args must be importable there and picklable. Raises what f raises, and BrokenProcessPool where the process
    was killed (for want of memory, say).
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(f, *args).result()


def begin(plan: Plan) -> torch.device:
    """Set the threads and the GPU of this process; returns the device. InputError for one that is not there."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    device = find_device(plan.device)
    if device.index is not None and device.type == "cuda":
        torch.cuda.set_device(device)
    return device


class Clock:
    """Marks in time on a device, read when all are made: so a GPU is not kept waiting between two of them."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.marks: list[Any] = []

    def mark(self) -> None:
        if self.device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self.marks.append(event)
        else:
            self.marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """From each mark to the next: one number less than there are marks."""
        synchronise(self.device)
        pairs = zip(self.marks[:-1], self.marks[1:], strict=True)
        if self.device.type == "cuda":
            return [first.elapsed_time(second) / 1000 for first, second in pairs]
        return [second - first for first, second in pairs]


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(f: Callable[[], object], device: torch.device) -> float:
    """Seconds that f takes."""
    synchronise(device)
    start = time.perf_counter()
    f()
    synchronise(device)
    return time.perf_counter() - start


def step_seconds(steps: Iterable[object], device: torch.device, warm_up: int) -> list[float]:
    """Seconds of each step after the first `warm_up` + 1 of a loop that yields after each."""
    clock = Clock(device)
    for _ in steps:
        clock.mark()
    return clock.seconds()[warm_up:]


class Memory:
    """Peaks of memory in bytes: of the whole process so far, and of drawing alone, once all is loaded.

    On a GPU, of its tensors. On a CPU, of the resident set, libraries included: the kernel's VmHWM, since
    getrusage's ru_maxrss is inherited from the process that started this one.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.begun = 0 if device.type == "cuda" else _status("VmRSS") or 0

    def loaded(self) -> None:
        """Count from here on as drawing."""
        self.before = self._peak()
        self.apart = self._restart()

    def done(self) -> Peak:
        now = self._peak()
        return Peak(self.begun, max(self.before, now), now if self.apart else None)

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        found = _status("VmHWM")
        if found is None:
            import resource

            unit = 1 if sys.platform == "darwin" else 1024
            found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        return found

    def _restart(self) -> bool:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return True
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): VmHWM becomes what it is now
        except OSError:
            return False
        return True


def _status(name: str) -> int | None:
    """A line of /proc/self/status in bytes; None where there is none."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:")), None)


def bytes_of(modules: Iterable[nn.Module]) -> int:
    """Bytes of the weights, each counted once."""
    weights = {id(weight): weight for module in modules for weight in module.parameters()}
    return sum(weight.numel() * weight.element_size() for weight in weights.values())


def describe(plan: Plan) -> dict[str, str]:
    """The machine that the figures depend on: hardware, threads, versions."""
    device = begin(plan)
    found = {"CPU": f"{_cpu()}, {len(_affinity())} cores, {torch.backends.cpu.get_cpu_capability()}"}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found["GPU"] = (
            f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}"
        )
        tf32 = [
            name
            for name, backend in (("matmul", torch.backends.cuda.matmul), ("cudnn", torch.backends.cudnn))
            if backend.allow_tf32
        ]
        found["float32 in TF32"] = ", ".join(tf32) or "nowhere"
    else:
        found["threads"] = str(torch.get_num_threads())
        found["norms"] = "fused" if library() else "PyTorch's"
    versions = {"Python": platform.python_version()} | {name: version(name) for name in PACKAGES}
    said = ", ".join(f"{name} {found}" for name, found in versions.items() if found)
    return found | {"versions": said}


def version(package: str) -> str:
    """Version of an installed package; empty where there is none, or it does not say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _affinity() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
