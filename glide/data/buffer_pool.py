"""Memory for batches, used again once nobody holds the batch: fresh pages take about as long as to fill them."""

from __future__ import annotations

import math
import threading
import weakref

import numpy as np
from numpy.typing import NDArray


class Buffers:
    """Arrays of bytes that come back by themselves. Safe for many threads."""

    def __init__(self, most: int = 8) -> None:
        self.most = most  # that wait to be used again
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.RLock()  # an array may come back while this thread takes one

    def get(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """An array of any content; its memory is used again when it, and what torch made of it, is gone.

        NumPy's own views of it do not keep it.
        """
        size = math.prod(shape)
        with self._lock:
            place = next((i for i, memory in enumerate(self._free) if memory.size == size), None)
            memory = np.empty(size, np.uint8) if place is None else self._free.pop(place)
        array = memory.reshape(shape)
        weakref.finalize(array, self._back, memory).atexit = False
        return array

    def _back(self, memory: NDArray[np.uint8]) -> None:
        with self._lock:
            self._free = [*self._free, memory][-self.most :]
