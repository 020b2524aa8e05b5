"""Several processes that train one model together, started by `torchrun` or `accelerate launch`; usually there is one.

A step is the same whatever their number: each process takes its rows of the same global batch. One process alone needs
no launcher, and then neither `accelerate` nor `torch.distributed` is imported here.

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
from glide.data.prefetch import prefetch, prefetch_by_processes, usual_workers
from glide.utils.device import find_device
from glide.utils.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files and shows progress."""
        return self.rank == 0

    def rows(self, size: int) -> range:
        """Which rows of a global batch of `size` are this process's. InputError if they cannot be shared evenly."""
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

        The data are asked for these rows alone. workers: threads that make them, by default as many as suit the device.
        worker_processes: over 0, so many processes make them instead, and `broken` receives the damaged pictures that
        they met (`glide.data.prefetch`).
        """
        rows = self.rows(size) if self.world > 1 else None
        if worker_processes:
            return prefetch_by_processes(data, start, size, worker_processes, rows, broken)
        return prefetch(data, start, size, workers=workers or usual_workers(self.device), rows=rows)

    @torch.no_grad()
    def gather(self, x: Tensor) -> Tensor:
        """[N,...] of each process -> [M,...] of all in order of rank, where x was. Alone, x itself."""
        if self.world == 1:
            return x
        import torch.distributed as dist

        own = x.to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(parts, own)
        return torch.cat(parts).to(x.device)

    @torch.no_grad()
    def total(self, x: Tensor) -> Tensor:
        """The sum over processes; alone, x itself."""
        if self.world == 1:
            return x
        import torch.distributed as dist

        x = x.clone()
        dist.all_reduce(x)
        return x

    def agree(self, value: int) -> int:
        """What the main process says, a whole number."""
        return int(self.gather(torch.tensor([value]))[0])

    def wait(self) -> None:
        """Go on when all processes are here."""
        self.gather(torch.zeros(1))

    def finish(self) -> None:
        """Part from the other processes; none of the calls above may follow."""
        if self.world == 1:
            return
        import torch.distributed as dist

        # A thread of gloo's frees the tensor of the last call; while the interpreter goes that would abort
        let_go = threading.Event()
        last = torch.zeros(1, device=self.device)
        watch = weakref.ref(last, lambda _: let_go.set())
        dist.all_reduce(last)
        del last
        if dist.is_initialized():
            dist.destroy_process_group()
        let_go.wait(timeout=10)
        time.sleep(0.05)  # it is told of when the thread begins to, and that is soon done
        del watch


def start(device: str | None = None) -> Processes:
    """Join the processes that a launcher started; alone where there was none.

    device: "cpu", "cuda", ...; by default a GPU where there is one. Under a launcher each process takes the GPU of its
    own number. InputError for a device that is not there, or one GPU asked for by several processes.
    """
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and ":" in str(device):
        raise InputError(
            f"--device {device}: several processes cannot all take it; give cuda, or nothing, and each takes its own."
        )
    if several and device in (None, "", "auto", "cuda") and torch.cuda.is_available():
        place = torch.device("cuda")  # each has its own: none is tried, which would take memory of the first
    else:
        place = find_device(device)
    if not several:
        return Processes(device=place)
    if "OMP_NUM_THREADS" not in os.environ:  # launchers set it; without, each process would take all cores
        here = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ["WORLD_SIZE"]))
        threads = max(1, (os.cpu_count() or 1) // here)
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
    _meet_again("nccl" if place.type == "cuda" else "gloo")
    from accelerate import PartialState

    state = PartialState(cpu=place.type == "cpu")
    return Processes(state.process_index, state.num_processes, state.device)


def _meet_again(backend: str) -> None:
    """Where torchrun starts processes anew, find the others by names that the lost ones have not used.

    Its usual rendezvous keeps one store for all attempts, in which the addresses of those that were lost still stand;
    who reads them first waits for nobody.
    """
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if attempt == "0" or os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return
    import torch.distributed as dist

    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    held = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False)
    dist.init_process_group(
        backend, store=dist.PrefixStore(f"attempt {attempt}", held), rank=rank, world_size=world
    )


_LOST = ("gloo", "NCCL", "Connection closed", "Connection reset", "Broken pipe", "Socket", "process group")


@contextmanager
def others_lost(processes: Processes) -> Iterator[None]:
    """Within: what PyTorch raises when another process has gone is said in one sentence, as an InputError."""
    try:
        yield
    except RuntimeError as error:
        if processes.world == 1 or not any(sign in str(error) for sign in _LOST):
            raise
        first = str(error).strip().splitlines()[0]
        raise InputError(
            f"process {processes.rank} of {processes.world} stopped, as another one has ended or does not answer: its "
            f"own message says why ({first}). Start again with --resume."
        ) from error
