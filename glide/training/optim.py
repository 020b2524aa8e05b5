"""The optimizer (AdamW, optionally Muon for the matrices) and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glide.training.config import OptimConfig
from glide.training.distributed import Processes
from glide.training.fsdp import full_tensor, is_sharded, local_shard, to_local
from glide.training.muon import Muon
from glide.utils.dtype import fast_dtype


class Optimizer:
    """The optimizers of one model as one: Muon for its inner matrices if requested, AdamW for the rest.

    If the model is sharded, it updates the parts of this process. Updates are equal on every process, as gradients are.
    """

    def __init__(
        self, model: nn.Module, config: OptimConfig, steps: int, processes: Processes | None = None
    ) -> None:
        self.config, self.steps = config, steps
        self.processes = processes or Processes()
        matrices, rest = split_parameters(model) if config.muon_lr else ([], _learned(model))
        self.params = matrices + rest  # the model's
        # the updated tensors: the weights themselves, or their parts in this process
        self.own = [nn.Parameter(to_local(p)) if is_sharded(p) else p for p in self.params]
        own_matrices, own_rest = self.own[: len(matrices)], self.own[len(matrices) :]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                own_rest, config.lr, config.betas, weight_decay=config.weight_decay, foreach=True
            )
        ]
        if matrices:
            like = dict(zip(own_matrices, matrices, strict=True))
            # the fast type of the first machine, whatever the network computes in
            half = self.processes.broadcast(fast_dtype(matrices[0].device) == torch.bfloat16)
            dtype = torch.bfloat16 if half else torch.float32
            muon = Muon(
                own_matrices, config.muon_lr, weight_decay=config.weight_decay, like=like, dtype=dtype
            )
            self.parts.append(muon)
        self.rates = [part.param_groups[0]["lr"] for part in self.parts]

    @torch.no_grad()
    def step(self, step: int, scale: float = 1.0, apply: bool = True) -> float:
        """One update; returns the gradient's norm before clipping. If that is not finite, nothing changes.

        scale: the factor on the loss. apply: False to discard the gradient.
        """
        pairs = [(own, p) for own, p in zip(self.own, self.params, strict=True) if p.grad is not None]
        grads = [to_local(p.grad) for _, p in pairs if p.grad is not None]
        norm = self._norm(grads, [is_sharded(p) for _, p in pairs]) / scale
        if apply and math.isfinite(norm):
            clip = self.config.clip / (norm + 1e-6) if self.config.clip else 1.0
            if (factor := min(1.0, clip) / scale) != 1.0:
                torch._foreach_mul_(grads, factor)
            for (own, _), grad in zip(pairs, grads, strict=True):
                own.grad = grad
            for part, rate in zip(self.parts, self.rates, strict=True):
                part.param_groups[0]["lr"] = rate * self.config.rate(step, self.steps)
                part.step()
        for p in (*self.own, *self.params):
            p.grad = None
        return norm

    def _norm(self, grads: list[Tensor], sharded: list[bool]) -> float:
        norms = torch.stack(torch._foreach_norm(grads))
        if not any(sharded):
            return float(torch.linalg.vector_norm(norms))
        parts = torch.tensor(sharded, device=norms.device)
        squares = norms.square()
        return float((self.processes.all_reduce(squares[parts].sum()) + squares[~parts].sum()).sqrt())

    def state_dict(self) -> list[dict[str, Any]]:
        """The state with whole tensors, also of a sharded model; all processes call it."""
        return [self._exchanged(part, part.state_dict(), full_tensor) for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """The inverse of `state_dict`. ValueError for a state of other parameters."""
        for part, state in zip(self.parts, states, strict=True):
            _check_groups(part, state)
            found = self._exchanged(part, state, local_shard)
            for index, own in enumerate(part.param_groups[0]["params"]):
                _check_entry(own, found["state"].get(index, {}))
            part.load_state_dict(found)

    def _exchanged(
        self, part: torch.optim.Optimizer, state: dict[str, Any], exchange: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Any]:
        """The state with its tensors gathered, or reduced to this process's parts; step counters stay."""
        of = dict(zip(map(id, self.own), self.params, strict=True))
        entries = {}
        for index, own in enumerate(part.param_groups[0]["params"]):
            entries[index] = {
                name: exchange(value, of[id(own)]) if isinstance(value, Tensor) and value.ndim else value
                for name, value in state["state"].get(index, {}).items()
            }
        return {**state, "state": {index: entry for index, entry in entries.items() if entry}}


def _check_groups(part: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """ValueError unless numbers and switches have the types used here. Entries that only one side has are ignored."""
    here, (there,) = part.param_groups[0], state["param_groups"]
    for name in (here.keys() & there.keys()) - {"params"}:
        mine, other = here[name], there[name]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (mine, other))
        if not (numbers or other is None or mine is None or type(mine) is type(other)):
            raise ValueError(f"the optimizer's {name} is {other!r:.40}")


def _check_entry(parameter: Tensor, entry: Mapping[str, Any]) -> None:
    """ValueError unless the state of a parameter is numbers and tensors of its shape."""
    for name, value in entry.items():
        fits = isinstance(value, Tensor) and (not value.ndim or value.shape == parameter.shape)
        if not fits and not isinstance(value, int | float):
            raise ValueError(f"the optimizer's {name} has another shape than its weights")


OUTER_LAYERS = {
    "stem",
    "head",
    "inner_head",
    "text_head",
    "time_in",
    "level_in",
    "times",
    "label",
    "positions",
}
"""Names of a network's first and last layers, and of its tables of embeddings."""


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(inner matrices and convolutions, all others): embeddings, first and last layers are trained by AdamW.

    Frozen weights are in neither.
    """
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        if not p.requires_grad:
            continue
        embedding = name.startswith("text.") and not name.startswith("text.blocks.")
        (rest if p.ndim < 2 or embedding or OUTER_LAYERS & set(name.split(".")) else matrices).append(p)
    return matrices, rest


def _learned(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]
