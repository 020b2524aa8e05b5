"""One step of training: gradients of a batch in parts and over processes, an update, averages.

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

from glide.data.datasets import Batch, on_device
from glide.data.prefetch import FREE
from glide.diffusion.timestep_sampling import TimestepSampler
from glide.networks.compile import as_written, compile_for_training
from glide.networks.cpu.allocator import keep_freed_memory
from glide.training.distributed import Processes
from glide.training.ema import EMA
from glide.training.fsdp import shard
from glide.training.optim import Optimizer
from glide.training.row_rng import DropoutRows, RowRng, derive_seed
from glide.training.train_state import TrainState, twin_of
from glide.utils.hardware import flops_of
from glide.utils.mixed_precision import LossScale, autocast

if TYPE_CHECKING:
    from glide.training.config import TrainConfig

CACHE_BYTES = 2**31 - 1  # bytes of freed memory, for the activations of the next step
M = TypeVar("M", bound=nn.Module)
M_contra = TypeVar("M_contra", bound=nn.Module, contravariant=True)


class Task(Protocol[M_contra]):
    """What is trained: a batch in, per-example losses out.

    Called with (model, batch, t [N], draws); returns a dict of [N] tensors of which "loss" is minimised. All its random
    numbers are `draws`, so that a row gets the same ones wherever it is computed.
    """

    def __call__(self, model: M_contra, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]: ...


class TaskModule(nn.Module):
    """A model with its task, as the one module whose call makes the losses: what DDP and FSDP2 wrap."""

    def __init__(self, model: nn.Module, task: Task[Any]) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch, t: Tensor, draws: RowRng) -> dict[str, Tensor]:
        return self.task(self.model, batch, t, draws)


@dataclass(frozen=True)
class Outcome:
    """What one step came to, the same on every process."""

    terms: dict[str, Tensor]  # [M] each, on the CPU
    t: Tensor  # [M]
    norm: float  # of the gradient, before clipping
    good: bool  # False: loss or gradient was not finite, and the step was skipped
    stop: bool  # some process was asked to stop


class Stepper(Generic[M]):
    """A model in training. The step k is a pure function of the weights before it and of (seed, k)."""

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
        twin = twin_of(model) if sharded and processes.main else None
        if not sharded:  # FSDP2 takes contiguous weights alone
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if config.compile:
            compile_for_training(model)
        model.train()
        self.net: nn.Module = TaskModule(model, task)
        self.scalars: list[nn.Parameter] = []
        self.unsynced: Callable[[], Any] = nullcontext
        if sharded:
            self.scalars = shard(self.net, processes)
        elif processes.world > 1:
            self.net = nn.parallel.DistributedDataParallel(self.net, gradient_as_bucket_view=True)
            self.unsynced = self.net.no_sync
        optimizer = Optimizer(model, config.optim, config.steps, processes)
        self.scale = LossScale(config.dtype)
        averages = EMA(model, config.ema, config.ema_snapshots)
        self.weights = TrainState(model, twin, averages, optimizer, timesteps, self.scale, processes)
        self.dropout = DropoutRows(model)
        self.generator = torch.Generator()
        self.bad_in_a_row = 0  # steps that were skipped, besides those in which the loss scale was found
        self.last_good = -1  # the last step whose loss and gradient were finite
        self.whole = True  # False: weights and averages are of two steps, as they are while one is being done

    def step(self, step: int, batch: Batch, stop: bool = False) -> Outcome:
        """Do the step of that number. batch: this process's rows. stop: whether this process was asked to stop."""
        rows = self.processes.rows(self.config.batch_size)
        assert len(batch["image"]) == len(rows)
        t, weight = self.draw(step)
        own = self.losses(step, batch, t[rows.start : rows.stop], weight[rows.start : rows.stop])
        terms, asked = self._gathered(own, stop)
        finite = math.isfinite(terms["loss"].mean().item())
        self.whole = False
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
        self.whole = True
        FREE.clear()  # else taking the next batch, which lies there, would begin another in the way of this thread
        return Outcome(terms, t, norm, good, asked)

    def draw(self, step: int) -> tuple[Tensor, Tensor]:
        """Timesteps [M] of the whole batch and their weights; every process draws the same."""
        seed = derive_seed(self.config.seed, step)
        # for what draws by itself: nothing of ours
        if self.processes.device.type == "cpu":
            torch.default_generator.manual_seed(seed)
        else:
            torch.manual_seed(seed)  # takes a millisecond where other devices were never used
        self.generator.manual_seed(seed)
        return self.timesteps.sample(self.config.batch_size, self.generator)

    def losses(self, step: int, batch: Batch, t: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Losses [N] of this process's rows; their gradients, averaged over the whole batch, are then in
        the weights."""
        size, first = len(t), self.processes.rows(self.config.batch_size).start
        seed, device = derive_seed(self.config.seed, step), self.processes.device
        parts = torch.arange(size).chunk(self.config.accumulate)
        found = []
        for part in parts:
            row = first + int(part[0])
            self.dropout.at(seed, row)
            draws = RowRng(seed, range(row, row + len(part)))
            FREE.clear()
            inputs = on_device(batch, device, _slice(part))
            with nullcontext() if part is parts[-1] else self.unsynced():
                with autocast(device, self.config.dtype):
                    terms = self.net(inputs, t[part].to(device), draws)
                loss = (terms["loss"] * weight[part].to(device)).sum() / size
                FREE.set()
                (loss * self.scale.factor).backward()
            found.append({k: v.detach().float().cpu() for k, v in terms.items()})
        self.dropout.off()
        for p in self.scalars:
            if p.grad is not None:
                p.grad = self.processes.total(p.grad) / self.processes.world
        return {k: torch.cat([part[k] for part in found]) for k in found[0]}

    def flops(self, step: int, batch: Batch) -> float:
        """Of a whole step, all processes together, counted in a forward pass of its first part. All call it."""
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
        """The terms of all processes, and whether one of them was asked to stop: one message for both."""
        if self.processes.world == 1:
            return terms, stop
        flag = torch.full((len(terms["loss"]), 1), float(stop))
        table = self.processes.gather(torch.cat([torch.stack(list(terms.values()), dim=1), flag], dim=1))
        return dict(zip(terms, table[:, :-1].unbind(dim=1), strict=True)), bool(table[:, -1].any())


def _slice(rows: Tensor) -> slice:
    """Of rows that follow each other: taking them makes no copy."""
    return slice(int(rows[0]), int(rows[-1]) + 1)
