"""A pool of memory for batches, reused once a batch is freed: fresh pages take as long as filling them."""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np
from numpy.typing import NDArray


class BufferPool:
    """Arrays of bytes that return to the pool when they are freed. Thread-safe."""

    def __init__(self, size: int = 8) -> None:
        self.size = size  # buffers kept for reuse
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.RLock()  # reentrant: an array may be freed while this thread takes one

    def get(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of arbitrary content; its memory is reused when it, and the tensors made from it, are freed.

        NumPy's own views of it do not keep it alive.
        """
        size = math.prod(shape)
        with self._lock:
            place = next((i for i, memory in enumerate(self._free) if memory.size == size), None)
            memory = np.empty(size, np.uint8) if place is None else self._free.pop(place)
        array = memory.reshape(shape)
        weakref.finalize(array, self._release, memory).atexit = False
        return array

    def _release(self, memory: NDArray[np.uint8]) -> None:
        with self._lock:
            self._free = [*self._free, memory][-self.size :]
