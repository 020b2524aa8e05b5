"""The state of a training run, as a checkpoint holds it: weights, their averages and the optimizer's state.

Nothing else is needed: the learning rate is a function of the step, random numbers and batches of (seed, step).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from glide.diffusion.timestep_sampling import TimestepSampler
from glide.networks.compile import as_written
from glide.training.checkpoints import STATE
from glide.training.distributed import Processes
from glide.training.ema import EMA
from glide.training.fsdp import full_tensor, local_shard
from glide.training.optim import Optimizer
from glide.utils.errors import InputError
from glide.utils.mixed_precision import LossScale

M = TypeVar("M", bound=nn.Module)


class TrainState(Generic[M]):
    """A model, its averages and its optimizer, as one state that is saved and loaded.

    full_model: if the model is sharded, a whole copy in the main process's memory, for the model folder and previews;
    None otherwise.
    """

    def __init__(
        self,
        model: M,
        full_model: M | None,
        averages: EMA,
        optimizer: Optimizer,
        timesteps: TimestepSampler,
        scale: LossScale,
        processes: Processes,
    ) -> None:
        self.model, self.full_model, self.averages, self.optimizer = model, full_model, averages, optimizer
        self.timesteps, self.scale, self.processes = timesteps, scale, processes
        self.sharded = any(p is not q for p, q in zip(optimizer.own, optimizer.params, strict=True))

    def gather(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """A checkpoint's tensors by file, and its other state. All processes call it; only the main one gets all."""
        files = {"model": self.averages.source}
        files |= {f"ema-{decay}": weights for decay, weights in self.averages.weights.items()}
        files |= {f"power-{width}": weights for width, weights in self.averages.powers.items()}
        tensors = {name: self.gather_tensors(part) for name, part in files.items()}
        state = {
            "optimizer": self.optimizer.state_dict(),
            "timesteps": self.timesteps.state_dict(),
            "scale": self.scale.state_dict(),
        }
        return tensors, state

    def gather_tensors(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gather the tensors one by one, for the main process only."""
        if not self.sharded:
            return dict(parts)
        found = {}
        for name, part in parts.items():
            tensor = full_tensor(part, self.averages.like[name])
            if self.processes.main:
                found[name] = tensor.cpu()
        return found

    @torch.no_grad()
    def load(self, path: Path) -> int:
        """Load a checkpoint, written by any number of processes; returns its step.

        InputError if it does not fit the model and its settings.
        """
        try:
            state = torch.load(path / STATE, weights_only=True, map_location="cpu")
            self._copy(self.averages.source, load_file(path / "model.safetensors"))
            for decay, weights in self.averages.weights.items():
                self._copy(weights, load_file(path / f"ema-{decay}.safetensors"))
            for width, weights in self.averages.powers.items():
                self._copy(weights, load_file(path / f"power-{width}.safetensors"))
            self.optimizer.load_state_dict(state["optimizer"])
            self.timesteps.load_state_dict(state["timesteps"])
            self.scale.load_state_dict(state.get("scale", {}))
            step = state["step"]
            if type(step) is not int or f"step-{step:07d}" != path.name:
                raise ValueError(f"its state is of step {step!r}")
        except Exception as e:  # a file with the right checksum can still hold anything
            raise InputError(
                f"{path} cannot be resumed with these settings: {e or 'another kind of timesteps'}"
            ) from e
        return step

    def _copy(self, to: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
        if set(to) != set(source):
            raise KeyError(f"weights differ: {sorted(set(to) ^ set(source))[:3]}")
        for k, p in to.items():
            p.copy_(local_shard(source[k], self.averages.like[k]))

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the model's weights with the first average's."""
        for k, w in self.averages.first.items():
            p = self.averages.source[k]
            kept = p.clone()
            p.copy_(w)
            w.copy_(kept)

    @contextmanager
    def averaged(self) -> Iterator[M | None]:
        """A context with a whole model of averaged weights, in eval mode, for the main process; None for the others.

        All processes must enter it.
        """
        if self.sharded:
            weights = self.gather_tensors(self.averages.first)
            yield None if self.full_model is None else self._filled(self.full_model, weights)
            if self.full_model is not None:
                self.full_model.cpu()
            return
        self.swap()
        self.model.eval()
        try:
            with as_written():
                yield self.model if self.processes.main else None
        finally:
            self.swap()
            self.model.train()

    @torch.no_grad()
    def _filled(self, model: M, weights: Mapping[str, Tensor]) -> M:
        for name, p in model.named_parameters():
            p.copy_(weights[name])
        with suppress(torch.OutOfMemoryError):  # it then stays on the CPU, and previews take longer
            model.to(self.processes.device)
        return model.eval()

    def finished(self) -> M:
        """The model with the averaged weights, in eval mode, at the end; if sharded, the main process's copy."""
        if not self.sharded:
            self.swap()
            return self.model.eval()
        with self.averaged() as model:
            return self.model.eval() if model is None else model


def write_files(
    folder: Path,
    step: int,
    tensors: Mapping[str, dict[str, Tensor]],
    state: dict[str, Any],
    others: Mapping[str, bytes],
) -> None:
    """Write a checkpoint's files: the result of `TrainState.gather`, and other files by name."""
    for name, data in others.items():
        (folder / name).write_bytes(data)
    for name, part in tensors.items():
        save_file({k: p.contiguous() for k, p in part.items()}, folder / f"{name}.safetensors")
    torch.save({"step": step, **state}, folder / STATE)


def cpu_copy(model: M) -> M:
    """A copy of a model on the CPU."""
    return copy.deepcopy(model).cpu().requires_grad_(False)
