"""Distributed training (DDP): several processes, started by `torchrun` or `accelerate launch`, train one model.

A step is the same for any number of processes: each takes its rows of the same global batch. A single process needs no
launcher, and then neither `accelerate` nor `torch.distributed` is imported here.

Shape letters: N rows of a process, M of all processes.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glide.data.datasets import Batch, Dataset
from glide.data.prefetch import default_workers, prefetch, prefetch_by_processes
from glide.utils.device import find_device
from glide.utils.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together: rank, world size and device."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """True for the process that writes files and shows progress."""
        return self.rank == 0

    def rows(self, size: int) -> range:
        """This process's rows of a global batch of `size`. InputError if they cannot be shared evenly."""
        if size % self.world:
            raise InputError(
                f"--batch-size {size} cannot be shared evenly by {self.world} processes: give a multiple of "
                f"{self.world}."
            )
        own = size // self.world
        return range(self.rank * own, (self.rank + 1) * own)

    def batches(
        self,
        data: Dataset,
        start: int,
        size: int,
        workers: int | None = None,
        worker_processes: int = 0,
        broken: dict[str, str] | None = None,
    ) -> Generator[Batch, None, None]:
        """This process's rows of the global batches of steps start, start + 1, ..., made ahead of time.

        Only these rows are made. workers: threads that make them, by default as many as suit the device.
        worker_processes: above 0, the number of processes that make them instead; `broken` then receives the damaged
        pictures that they find (`glide.data.prefetch`).
        """
        rows = self.rows(size) if self.world > 1 else None
        if worker_processes:
            return prefetch_by_processes(data, start, size, worker_processes, rows, broken)
        return prefetch(data, start, size, workers=workers or default_workers(self.device), rows=rows)

    @torch.no_grad()
    def all_gather(self, x: Tensor) -> Tensor:
        """[N,...] of each process -> [M,...] of all by rank, on the device of x. A single process returns x."""
        if self.world == 1:
            return x
        import torch.distributed as dist

        own = x.to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own)
        return torch.cat(parts).to(x.device)

    @torch.no_grad()
    def all_reduce(self, x: Tensor) -> Tensor:
        """The sum over processes; a single process returns x."""
        if self.world == 1:
            return x
        import torch.distributed as dist

        x = x.clone()
        dist.all_reduce(x)
        return x

    def broadcast(self, value: int) -> int:
        """The whole number that the main process passes."""
        return int(self.all_gather(torch.tensor([value]))[0])

    def barrier(self) -> None:
        """Wait until all processes are here."""
        self.all_gather(torch.zeros(1))

    def finish(self) -> None:
        """Leave the process group; none of the calls above may follow."""
        if self.world == 1:
            return
        import torch.distributed as dist

        # A thread of gloo frees the tensor of the last call; at the interpreter's exit that would abort
        released = threading.Event()
        last = torch.zeros(1, device=self.device)
        finalizer = weakref.ref(last, lambda _: released.set())
        dist.all_reduce(last)
        del last
        if dist.is_initialized():
            dist.destroy_process_group()
        released.wait(timeout=10)
        time.sleep(0.05)  # the finalizer runs as the thread begins to free it, which takes a moment
        del finalizer


def start(device: str | None = None) -> Processes:
    """Join the processes that a launcher started; without a launcher, a single process.

    device: "cpu", "cuda", ...; by default a GPU where there is one. Under a launcher each process takes the GPU of its
    own rank. InputError for a missing device, and for one GPU requested by several processes.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and ":" in str(device):
        raise InputError(
            f"--device {device}: several processes cannot all take it; give cuda, or nothing, and each takes its own."
        )
    if several and device in (None, "", "auto", "cuda") and torch.cuda.is_available():
        place = torch.device("cuda")  # each has its own; trying one would take memory of the first
    else:
        place = find_device(device)
    if not several:
        return Processes(device=place)
    if "OMP_NUM_THREADS" not in os.environ:  # launchers set it; without it each process would take all cores
        here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        threads = max(1, (os.cpu_count() or 1) // here)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
    _init_after_restart("nccl" if place.type == "cuda" else "gloo")
    from accelerate import PartialState

    state = PartialState(cpu=place.type == "cpu")
    return Processes(state.process_index, state.num_processes, state.device)


def _init_after_restart(backend: str) -> None:
    """After torchrun has restarted the processes, let them meet by names that the lost ones have not used.

    Its rendezvous keeps one store for all attempts, which still holds the addresses of the lost processes; whoever
    reads them first would not wait for the others.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    import torch.distributed as dist

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    shared_store = dist.TCPStore(
        os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False
    )
    dist.init_process_group(
        backend, store=dist.PrefixStore(f"attempt {attempt}", shared_store), rank=rank, world_size=world
    )


_LOST_PEER_SIGNS = (
    "gloo",
    "NCCL",
    "Connection closed",
    "Connection reset",
    "Broken pipe",
    "Socket",
    "process group",
)


@contextmanager
def lost_peers_reported(processes: Processes) -> Iterator[None]:
    """A context in which PyTorch's error for a lost process becomes an InputError of one sentence."""
    try:
        yield
    except RuntimeError as error:
        if processes.world == 1 or not any(sign in str(error) for sign in _LOST_PEER_SIGNS):
            raise
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"process {processes.rank} of {processes.world} stopped, as another one has ended or does not answer: its "
            f"own message says why ({first}). Start again with --resume."
        ) from error
