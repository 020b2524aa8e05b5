"""Settings of glibc's memory allocator, which otherwise returns every large block to the system.

Each activation then lies in fresh pages: a tenth of the time of a step of training or sampling, measured. Other C
libraries and GPUs are left as they are.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt, from <malloc.h>
LARGE_BLOCK = 2**27  # bytes from which a block always comes from the system and goes back to it
OWN_PAGES_BLOCK = 2**18  # the same within `in_own_pages`
_kept = 0  # bytes of freed memory that this process keeps, at most


def keep_freed_memory(device: torch.device, most: int) -> None:
    """Have glibc keep up to `most` bytes of freed memory for later allocations, if the device is a CPU.

    It holds for the whole process and cannot be undone; a smaller number than before changes nothing.
    """
    global _kept
    mallopt = _glibc_function("mallopt")
    if mallopt is None or device.type != "cpu" or most <= _kept:
        return
    _kept = most
    mallopt(TRIM_THRESHOLD, most)
    mallopt(MMAP_THRESHOLD, LARGE_BLOCK)


@contextmanager
def in_own_pages() -> Iterator[None]:
    """Give every large block allocated within pages of its own, which go back to the system when it is freed.

    For weights: freed weights then leave no holes among which activations would be scattered.
    """
    mallopt = _glibc_function("mallopt")
    if mallopt is not None:
        mallopt(MMAP_THRESHOLD, OWN_PAGES_BLOCK)
    try:
        yield
    finally:
        if mallopt is not None:
            mallopt(MMAP_THRESHOLD, LARGE_BLOCK)


def _glibc_function(name: str) -> Callable[..., int] | None:
    """A function of the C library, or None where it is not glibc."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
