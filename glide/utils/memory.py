"""Available memory, and a check of requests against it before they are allocated."""

from __future__ import annotations

import os
import sys

from glide.utils.errors import InputError

BYTES_PER_RECORD = 4096  # of the recipe, the caption and the name of a picture
UNKNOWN = 2**40  # bytes, if the memory is unknown


def available_memory() -> int:
    """Bytes that this process can still allocate: free memory of the machine, within the limits of the process.

    Considers memory that the system would free (caches), the limit of a container (cgroup v2) and `ulimit -v`.
    """
    return max(0, min(_of_machine(), _of_container(), _of_process()))


def check_memory(needed: float, asked: str, do: str) -> None:
    """InputError if more than half of the available memory is `needed` (bytes, a lower bound).

    asked: the flag and its value, as "--frames 1000". do: what to do instead.
    """
    free = available_memory()
    if needed > free / 2:
        raise InputError(
            f"got {asked}, which takes {_gigabytes(needed)} of memory or more, expected what fits into half of the "
            f"{_gigabytes(free)} that are free: {do}"
        )


def check_file_fits(needed: int, name: object, what: str) -> None:
    """InputError if `needed` bytes, for `what` is in a file, are more than the free memory."""
    free = available_memory()
    if needed > free:
        raise InputError(
            f"got {name}, which needs {_gigabytes(needed)} for {what}, expected what fits into the "
            f"{_gigabytes(free)} that are free: check the file, or use a machine with more memory"
        )


def _gigabytes(count: float) -> str:
    return f"{count / 2**30:,.1f} GiB" if count < 2**60 else "far too many GiB"


def _of_machine() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows
        return UNKNOWN


def _of_container() -> int:
    try:
        with open("/sys/fs/cgroup/memory.max", encoding="ascii") as file:
            limit = file.read().strip()
        with open("/sys/fs/cgroup/memory.current", encoding="ascii") as file:
            used = file.read().strip()
    except OSError:
        return UNKNOWN
    return int(limit) - int(used) if limit.isdigit() and used.isdigit() else UNKNOWN


def _of_process() -> int:
    if sys.platform == "win32":
        return UNKNOWN
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return UNKNOWN
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        used = 0
    return limit - used
