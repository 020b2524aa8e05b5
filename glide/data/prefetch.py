"""Prefetch batches by threads or processes while the network trains on earlier ones.

Threads are enough for stored pictures: Pillow decodes and scales, and torch copies, without Python's global lock (GIL).
Data computed in Python, as the built-in scenes, are made faster by processes. Each worker makes a whole batch, which is
possible because a batch is a function of its step alone.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from glide.data.datasets import Batch, Dataset

MAX_WORKERS = 8

GIL_FREE = threading.Event()
"""Cleared while the main thread runs much Python, as in a forward pass: no worker then begins a batch, which would
compete for Python's lock. A backward pass does not need the lock."""
GIL_FREE.set()


def default_workers(device: torch.device) -> int:
    """Default number of threads for a device: 1 beside a network on the CPU, else one per free core, up to 8."""
    if device.type == "cpu":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # set by torchrun and accelerate
    return max(1, min(MAX_WORKERS, cores // max(processes, 1) - 1))


def prefetch(
    dataset: Dataset,
    start_step: int,
    size: int,
    ahead: int = 2,
    workers: int = 1,
    rows: range | None = None,
) -> Generator[Batch, None, None]:
    """The batches of start_step, start_step + 1, ... without end, made ahead by `workers` threads.

    ahead: batches made or being made besides the one in use, at least one per worker. rows: of each batch, if it is
    divided among processes (`glide.training.distributed`). Batches come in order; an error of the data set is raised in
    place of its batch. Closing the iterator ends the threads.
    """
    making = _BatchQueue(dataset, start_step, size, max(ahead, workers), rows)
    threads = [
        threading.Thread(target=making.work, name="prefetch", daemon=True) for _ in range(max(workers, 1))
    ]
    for thread in threads:
        thread.start()
    try:
        while True:
            yield making.take()
    finally:
        making.close()
        for thread in threads:
            thread.join(timeout=10)  # it may be waiting for a remote file


class _BatchQueue:
    """The batches between the next one to be taken and the next one to be begun."""

    def __init__(self, dataset: Dataset, start: int, size: int, ahead: int, rows: range | None) -> None:
        self.dataset, self.size, self.ahead, self.rows = dataset, size, ahead, rows
        self.next_begun = self.next_taken = start
        self.made: dict[int, Batch | BaseException] = {}
        self.closed = False
        self.changed = threading.Condition()

    def work(self) -> None:
        """The loop of a worker thread: make the next batch that no thread has begun."""
        # for this thread only; a second pool of threads would compete with the network's for cores
        torch.set_num_threads(1)
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.closed or self.next_begun < self.next_taken + self.ahead)
                if self.closed:
                    return
                step = self.next_begun
                self.next_begun += 1
            GIL_FREE.wait()
            item = self._make(step)
            with self.changed:
                self.made[step] = item
                self.changed.notify_all()

    def _make(self, step: int) -> Batch | BaseException:
        try:
            if self.rows is None:
                return self.dataset.batch(step, self.size)
            return self.dataset.batch(step, self.size, self.rows)
        except BaseException as error:
            return error

    def take(self) -> Batch:
        """The next batch, as soon as it is made. Raises the error that occurred in making it."""
        with self.changed:
            if self.next_taken not in self.made:
                GIL_FREE.set()
            self.changed.wait_for(lambda: self.next_taken in self.made)
            item = self.made.pop(self.next_taken)
            self.next_taken += 1
            self.changed.notify_all()
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self) -> None:
        with self.changed:
            self.closed = True
            GIL_FREE.set()
            self.changed.notify_all()


def prefetch_by_processes(
    dataset: Dataset,
    start_step: int,
    size: int,
    workers: int,
    rows: range | None = None,
    broken: dict[str, str] | None = None,
) -> Generator[Batch, None, None]:
    """The same batches as `prefetch`, made by `workers` processes, two ahead in each.

    broken: receives the damaged pictures that they found, by name, with the reason; `dataset.broken` holds only those
    of this process. Closing the iterator ends the processes.
    """
    loader: DataLoader[_Made] = DataLoader(
        _StepDataset(dataset, size, rows),
        batch_size=None,
        sampler=_CountFrom(start_step),
        num_workers=workers,
    )
    for batch, found in loader:
        if broken is not None:
            broken.update(found)
        yield batch


_Made = tuple[Batch, dict[str, str]]


@dataclass(frozen=True)
class _StepDataset(TorchDataset[_Made]):
    """A data set for PyTorch's loader, indexed by step."""

    dataset: Dataset
    size: int
    rows: range | None

    def __getitem__(self, step: int) -> _Made:
        own = () if self.rows is None else (self.rows,)
        batch = self.dataset.batch(step, self.size, *own)
        return batch, dict(self.dataset.broken)


@dataclass(frozen=True)
class _CountFrom:
    """start, start + 1, ... without end."""

    start: int

    def __iter__(self) -> Iterator[int]:
        return count(self.start)
