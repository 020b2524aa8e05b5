"""One training step: gradients of a batch in parts and over processes, an update, averages.

Shape letters: N rows of this process, M rows of the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn

from glide.data.datasets import Batch, examples_in, on_device
from glide.data.prefetch import GIL_FREE
from glide.diffusion.timestep_sampling import TimestepSampler
from glide.networks.compile import as_written, compile_for_training
from glide.networks.cpu.allocator import keep_freed_memory
from glide.training.distributed import Processes
from glide.training.ema import EMA
from glide.training.fsdp import shard
from glide.training.optim import Optimizer
from glide.training.row_rng import DropoutRows, RowRng, derive_seed
from glide.training.train_state import TrainState, cpu_copy
from glide.utils.hardware import flops_of
from glide.utils.mixed_precision import LossScale, autocast

if TYPE_CHECKING:
    from glide.training.config import TrainConfig

CACHE_BYTES = 2**31 - 1  # bytes of freed memory, for the activations of the next step
M = TypeVar("M", bound=nn.Module)
M_contra = TypeVar("M_contra", bound=nn.Module, contravariant=True)


class Task(Protocol[M_contra]):
    """A training objective: a batch in, per-example losses out.

    Called with (model, batch, t [N], draws); returns a dict of [N] tensors of which "loss" is minimised. All its random
    numbers come from `draws`, so that a row gets the same ones wherever it is computed.
    """

    def __call__(self, model: M_contra, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]: ...


class TaskModule(nn.Module):
    """A model and its task as one module whose forward returns the losses, for DDP and FSDP2 to wrap."""

    def __init__(self, model: nn.Module, task: Task[Any]) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        return self.task(self.model, batch, t, draws)


@dataclass(frozen=True)
class Outcome:
    """The result of one step, the same on every process."""

    terms: dict[str, Tensor]  # [M] each, on the CPU
    t: Tensor  # [M]
    norm: float  # of the gradient, before clipping
    good: bool  # False: loss or gradient was not finite, so the step was skipped
    stop: bool  # a process received a signal to stop


class Stepper(Generic[M]):
    """A model in training. Step k is a pure function of the weights before it and of (seed, k)."""

    def __init__(
        self,
        model: M,
        task: Task[M],
        timesteps: TimestepSampler,
        config: TrainConfig,
        processes: Processes,
    ) -> None:
        processes.rows(config.batch_size)
        keep_freed_memory(processes.device, CACHE_BYTES)
        self.config, self.processes, self.timesteps = config, processes, timesteps
        parts: list[Any] = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
        for part in parts:
            part.gradient_checkpointing = config.gradient_checkpointing
        sharded = config.shard and processes.world > 1
        full_model = cpu_copy(model) if sharded and processes.main else None
        if not sharded:  # FSDP2 needs contiguous weights
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_for_training(model)
        model.train()
        self.net: nn.Module = TaskModule(model, task)
        self.scalars: list[nn.Parameter] = []
        self.no_sync: Callable[[], Any] = nullcontext
        if sharded:
            self.scalars = shard(self.net, processes)
        elif processes.world > 1:
            self.net = nn.parallel.DistributedDataParallel(self.net, gradient_as_bucket_view=True)
            self.no_sync = self.net.no_sync
        optimizer = Optimizer(model, config.optim, config.steps, processes)
        self.scale = LossScale(config.dtype)
        averages = EMA(model, config.ema, config.ema_snapshots)
        self.weights = TrainState(model, full_model, averages, optimizer, timesteps, self.scale, processes)
        self.dropout = DropoutRows(model)
        self.generator = torch.Generator()
        self.bad_in_a_row = 0  # steps skipped in a row, not counting the search for the loss scale
        self.last_good = -1  # the last step whose loss and gradient were finite
        self.consistent = True  # False during a step, while weights and averages belong to different steps

    def step(self, step: int, batch: Batch, stop: bool = False) -> Outcome:
        """Do one step. batch: this process's rows. stop: True if this process received a signal to stop."""
        rows = self.processes.rows(self.config.batch_size)
        assert examples_in(batch) == len(rows)
        t, weight = self.draw(step)
        own = self.losses(step, batch, t[rows.start : rows.stop], weight[rows.start : rows.stop])
        terms, stopping = self._gathered(own, stop)
        finite = math.isfinite(terms["loss"].mean().item())
        self.consistent = False
        norm = self.weights.optimizer.step(step, self.scale.factor, apply=finite)
        good = finite and math.isfinite(norm)
        searching = self.scale.searching
        self.scale.update(good)
        if good:
            self.weights.averages.update(step)
            self.timesteps.update(t, terms["loss"])
            self.bad_in_a_row, self.last_good = 0, step
        elif not (finite and searching):
            self.bad_in_a_row += 1
        self.consistent = True
        GIL_FREE.clear()  # taking the next batch would otherwise start work on another one beside this thread
        return Outcome(terms, t, norm, good, stopping)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Timesteps [M] of the whole batch and their weights; every process draws the same."""
        seed = derive_seed(self.config.seed, step)
        # for other libraries' random numbers: none of this code's
        if self.processes.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)  # takes a millisecond if other devices were not used before
        self.generator.manual_seed(seed)
        return self.timesteps.sample(self.config.batch_size, self.generator)

    def losses(self, step: int, batch: Batch, t: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Losses [N] of this process's rows. Leaves their gradients, averaged over the whole batch, in the weights."""
        size, first = len(t), self.processes.rows(self.config.batch_size).start
        seed, device = derive_seed(self.config.seed, step), self.processes.device
        parts = torch.arange(size).chunk(self.config.accumulate)
        found = []
        for part in parts:
            row = first + int(part[0])
            self.dropout.at(seed, row)
            draws = RowRng(seed, range(row, row + len(part)))
            GIL_FREE.clear()
            inputs = on_device(batch, device, _slice(part))
            with nullcontext() if part is parts[-1] else self.no_sync():
                with autocast(device, self.config.dtype):
                    terms = self.net(inputs, t[part].to(device), draws)
                loss = (terms["loss"] * weight[part].to(device)).sum() / size
                GIL_FREE.set()
                (loss * self.scale.factor).backward()
            found.append({k: v.detach().float().cpu() for k, v in terms.items()})
        self.dropout.off()
        for p in self.scalars:
            if p.grad is not None:
                p.grad = self.processes.all_reduce(p.grad) / self.processes.world
        return {k: torch.cat([part[k] for part in found]) for k in found[0]}

    def flops(self, step: int, batch: Batch) -> float:
        """FLOPs of a whole step over all processes, from a forward pass of its first part. All processes call it."""
        rows, device = self.processes.rows(self.config.batch_size), self.processes.device
        part = torch.arange(len(rows)).chunk(self.config.accumulate)[0]
        inputs = on_device(batch, device, _slice(part))
        t, _ = self.draw(step)
        net = self.net.module if isinstance(self.net, nn.parallel.DistributedDataParallel) else self.net

        def forward() -> None:
            with as_written(), autocast(device, self.config.dtype):
                net(inputs, t[part].to(device), RowRng(step, part.tolist()))

        return flops_of(forward) * len(rows) / len(part) * self.processes.world

    def _gathered(self, terms: dict[str, Tensor], stop: bool) -> tuple[dict[str, Tensor], bool]:
        """The terms of all processes, and True if one of them is to stop: one message for both."""
        if self.processes.world == 1:
            return terms, stop
        flag = torch.full((len(terms["loss"]), 1), float(stop))
        table = self.processes.all_gather(torch.cat([torch.stack(list(terms.values()), dim=1), flag], dim=1))
        return dict(zip(terms, table[:, :-1].unbind(dim=1), strict=True)), bool(table[:, -1].any())


def _slice(rows: Tensor) -> slice:
    """A slice of consecutive rows: indexing by it makes no copy."""
    return slice(int(rows[0]), int(rows[-1]) + 1)
