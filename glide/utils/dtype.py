"""The type that networks compute in: `auto` is a type that the device multiplies fast.

PyTorch reports the units of the device. Where that is not conclusive, as where oneDNN is limited to fewer units than
the processor has, the types are timed, once in a process. Imports nothing heavy, so that flags can name the types.
"""

from __future__ import annotations

import os
import platform
import time
from functools import cache
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from glide.utils.errors import InputError, warn

if TYPE_CHECKING:
    import torch

AUTO = "auto"
DTYPES = ("float32", "bfloat16", "float16")
FAST = 0.8  # share of the time of float32 below which a type is worth its rounding
RUNS = 6  # of a timing: the first warms up, and the fastest of the others counts

DType = Annotated[
    str,
    arg(
        metavar=f"{{{','.join((AUTO, *DTYPES))}}}",
        help="Type that the network computes in. auto: the fast one of the device, bfloat16 if it has units for it.",
    ),
]
"""The flag of commands that draw or measure."""


def check_dtype(dtype: str) -> None:
    """InputError for a name that is neither `auto` nor a type that networks compute in."""
    if dtype not in (AUTO, *DTYPES):
        expected = " or ".join((AUTO, *DTYPES))
        raise InputError(f"got the dtype {dtype!r}, expected {expected}: choose one of these")


def find_dtype(dtype: torch.dtype | str, device: torch.device | None = None) -> torch.dtype:
    """The type of that name, with or without "torch.", or for "auto" `fast_dtype`.

    device: None is the CPU. Warns of a type for which the device has no units, with its cost. InputError for another
    name.
    """
    import torch

    device = device or torch.device("cpu")
    name = str(dtype).removeprefix("torch.")
    check_dtype(name)
    if name == AUTO:
        return fast_dtype(device)
    found: torch.dtype = getattr(torch, name)
    times = slowdown(device, found)
    if times > 1:
        kind = "processor" if device.type == "cpu" else "GPU"
        warn_once(
            f"{name} is about {times} times as slow as float32 on this {kind}, which has no units for it: "
            "--dtype auto takes the fast one"
        )
    return found


@cache
def warn_once(message: str) -> None:
    """Warn of this once in a process, for any number of networks."""
    warn(message, stacklevel=3)


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device multiplies it fast; else, on a GPU, float16 if that is fast; else float32."""
    import torch

    if multiplies_fast(device, torch.bfloat16):
        return torch.bfloat16
    if device.type == "cuda" and multiplies_fast(device, torch.float16):
        return torch.float16
    return torch.float32


@cache
def multiplies_fast(device: torch.device, dtype: torch.dtype) -> bool:
    """True if the device has units that multiply `dtype` faster than float32, and for float32 itself."""
    import torch

    if dtype == torch.float32:
        return True
    if device.type == "cuda":
        with torch.cuda.device(device):
            if dtype == torch.bfloat16:
                return torch.cuda.is_bf16_supported(including_emulation=False)
            return torch.cuda.get_device_capability() >= (7, 0)  # the first with units for float16
    if device.type != "cpu" or not _has_kernels(dtype):
        return False
    units = _has_units(dtype)
    return cost(dtype) < FAST if units is None else units


def slowdown(device: torch.device, dtype: torch.dtype) -> int:
    """The time of a type without units on the device, in multiples of float32's; 1 if it is not slower.

    Timed on a CPU; 1 also for unknown devices.
    """
    if device.type != "cpu" or multiplies_fast(device, dtype):
        return 1
    return max(1, round(cost(dtype)))


def _has_kernels(dtype: torch.dtype) -> bool:
    """True if oneDNN, which multiplies on a CPU, supports the type."""
    import torch

    name = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}[dtype]
    ask = getattr(torch.ops.mkldnn, name, None)
    return torch.backends.mkldnn.is_available() and ask is not None and bool(ask())


def _has_units(dtype: torch.dtype) -> bool | None:
    """True if the processor has units for the type; None if PyTorch does not know, or oneDNN may not use them."""
    import torch

    ask = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # every processor with AMX has these
    limited = any(name in os.environ for name in ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"))
    x86 = platform.machine().lower() in ("x86_64", "amd64")
    if dtype != torch.bfloat16 or ask is None or not x86:
        return None
    return None if ask() and limited else bool(ask())


@cache
def cost(dtype: torch.dtype) -> float:
    """The time of one thread of a CPU in `dtype` for a piece of a small U-Net, in multiples of float32's.

    A convolution, and a projection of a twentieth of its work: about their share of a step. Takes tens of milliseconds.
    """
    import torch
    import torch.nn.functional as F

    def tensors(dtype: torch.dtype) -> list[torch.Tensor]:
        shapes = ((8, 64, 16, 16), (64, 64, 3, 3), (256, 64), (192, 64))
        made = [torch.full(shape, 0.01, dtype=dtype, device="cpu") for shape in shapes]
        return [x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x for x in made]

    def seconds(x: torch.Tensor, kernel: torch.Tensor, rows: torch.Tensor, weight: torch.Tensor) -> float:
        start = clock()
        F.conv2d(x, kernel, padding=1)
        F.linear(rows, weight)
        return clock() - start

    # the thread's own time, if its resolution is fine enough: other programs must not matter
    exact = time.get_clock_info("thread_time").resolution < 1e-6
    clock = time.thread_time if exact else time.perf_counter
    plain, other = tensors(torch.float32), tensors(dtype)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several threads would wait for each other
    try:
        with torch.no_grad():
            pairs = [(seconds(*plain), seconds(*other)) for _ in range(RUNS)][1:]  # the first warms up
    finally:
        torch.set_num_threads(threads)
    return min(slow for _, slow in pairs) / min(fast for fast, _ in pairs)
