"""The memory allocator keeps what is freed, where it is glibc."""

import sys

import pytest
import torch

from glide.networks.cpu.allocator import keep_freed_memory


def test_freed_memory_is_kept_where_the_c_library_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        def mallopt(self, *values: int) -> None:
            asked.append(values)  # type: ignore[arg-type]

    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("glide.networks.cpu.allocator._kept", 0)
    monkeypatch.setattr("ctypes.CDLL", lambda name: Library())
    cpu = torch.device("cpu")
    keep_freed_memory(cpu, 100)
    keep_freed_memory(cpu, 99)  # sampling in the middle of a training run reduces nothing
    assert asked == [(-1, 100), (-3, 2**27)]
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # musl
    keep_freed_memory(cpu, 101)
    keep_freed_memory(torch.device("cuda"), 102)
    assert len(asked) == 2
