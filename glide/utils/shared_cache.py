"""A thread-safe LRU cache of values that are made on first use."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SharedCache(Generic[K, V]):
    """Thread-safe LRU cache of at most `size` values; concurrent requests for a missing key compute it once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._values: OrderedDict[K, Future[V]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: K, make: Callable[[], V]) -> V:
        """The value of `key`. An error of `make` is raised in all waiting threads, and the next request tries again."""
        with self._lock:
            value = self._values.get(key)
            missing = value is None
            if value is None:
                value = self._values[key] = Future()
                while len(self._values) > self.size:
                    self._values.popitem(last=False)
            else:
                self._values.move_to_end(key)
        if missing:
            try:
                value.set_result(make())
            except BaseException as error:
                with self._lock:
                    if self._values.get(key) is value:
                        del self._values[key]
                value.set_exception(error)
        return value.result()
