"""The weights of a model in training, and what a checkpoint holds: them, their averages and the optimizer's state.

Nothing else needs to be kept: the rate is a function of the step, random numbers and batches of (seed, step).
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
from glide.training.fsdp import part_of, whole
from glide.training.optim import Optimizer
from glide.utils.errors import InputError
from glide.utils.mixed_precision import LossScale

M = TypeVar("M", bound=nn.Module)


class TrainState(Generic[M]):
    """A model, its averages and its optimizer, as one state that is saved, loaded and shown.

    twin: where the model is shared out over processes, a whole copy in the main process's memory, for the folder and
    for pictures; None elsewhere.
    """

    def __init__(
        self,
        model: M,
        twin: M | None,
        averages: EMA,
        optimizer: Optimizer,
        timesteps: TimestepSampler,
        scale: LossScale,
        processes: Processes,
    ) -> None:
        self.model, self.twin, self.averages, self.optimizer = model, twin, averages, optimizer
        self.timesteps, self.scale, self.processes = timesteps, scale, processes
        self.sharded = any(p is not q for p, q in zip(optimizer.own, optimizer.params, strict=True))

    def gathered(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors by file, and the rest, of a checkpoint. All processes call it; what the main one gets is whole."""
        files = {"model": self.averages.source}
        files |= {f"ema-{decay}": weights for decay, weights in self.averages.weights.items()}
        files |= {f"power-{width}": weights for width, weights in self.averages.powers.items()}
        tensors = {name: self.whole(part) for name, part in files.items()}
        state = {
            "optimizer": self.optimizer.state_dict(),
            "timesteps": self.timesteps.state_dict(),
            "scale": self.scale.state_dict(),
        }
        return tensors, state

    def whole(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Gathered one by one, and kept by the main process alone."""
        if not self.sharded:
            return dict(parts)
        found = {}
        for name, part in parts.items():
            tensor = whole(part, self.averages.like[name])
            if self.processes.main:
                found[name] = tensor.cpu()
        return found

    @torch.no_grad()
    def load(self, path: Path) -> int:
        """Take up a checkpoint, whatever the number of processes that wrote it; returns its step.

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
        except Exception as e:  # whatever a file may hold that its sums fit
            raise InputError(
                f"{path} cannot be resumed with these settings: {e or 'another kind of timesteps'}"
            ) from e
        return step

    def _copy(self, to: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
        if set(to) != set(source):
            raise KeyError(f"weights differ: {sorted(set(to) ^ set(source))[:3]}")
        for k, p in to.items():
            p.copy_(part_of(source[k], self.averages.like[k]))

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
        """Within, a whole model with the averaged weights, in eval mode, for the main process; None for the others.

        All processes must enter it.
        """
        if self.sharded:
            weights = self.whole(self.averages.first)
            yield None if self.twin is None else self._filled(self.twin, weights)
            if self.twin is not None:
                self.twin.cpu()
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
    def _filled(self, twin: M, weights: Mapping[str, Tensor]) -> M:
        for name, p in twin.named_parameters():
            p.copy_(weights[name])
        with suppress(torch.OutOfMemoryError):  # else it stays where it is, and pictures take longer
            twin.to(self.processes.device)
        return twin.eval()

    def finished(self) -> M:
        """The model with the averaged weights, in eval mode, for good; of one that is shared out, the main's twin."""
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
    """A checkpoint's files from what `TrainState.gathered` gave, and the bytes of others by name."""
    for name, data in others.items():
        (folder / name).write_bytes(data)
    for name, part in tensors.items():
        save_file({k: p.contiguous() for k, p in part.items()}, folder / f"{name}.safetensors")
    torch.save({"step": step, **state}, folder / STATE)


def twin_of(model: M) -> M:
    """A copy of a model in the processor's own memory."""
    return copy.deepcopy(model).cpu().requires_grad_(False)
