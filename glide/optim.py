"""The optimizer (AdamW, optionally Muon for the matrices), the learning-rate schedule and the weight averages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and a linear decay to zero over the last part of the run."""

    lr: float = 1e-4
    muon_lr: float = 0.0
    """Over 0: the matrices and convolutions inside the network are trained by Muon at this rate."""
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.99)
    warmup: int = 100
    """Steps over which the rate rises from zero."""
    cooldown: float = 0.0
    """Share of the run, at its end, over which the rate falls linearly to zero."""
    clip: float = 1.0
    """Largest norm of the whole gradient; 0 for no clipping."""

    def rate(self, step: int, steps: int) -> float:
        """The factor on the learning rates at `step` (from 0) of `steps`."""
        up = min(1.0, (step + 1) / max(1, self.warmup))
        down = (steps - step) / (self.cooldown * steps) if self.cooldown else 1.0
        return min(up, down, 1.0)


@torch.no_grad()
def orthogonalize(g: Tensor, iterations: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices of a stack [B,m,n], roughly: singular values end in 0.7 to 1.2.

    Newton-Schulz with the quintic of Jordan et al., "Muon: an optimizer for hidden layers", 2024.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.bfloat16()
    if tall := g.shape[-2] > g.shape[-1]:
        x = x.mT.contiguous()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(iterations):
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)  # a x + (b s + c s s) x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalized: for weights of two or more dimensions, convolutions flattened to matrices.

    Jordan et al. 2024. Parameters of one shape are orthogonalized together. (`torch.optim.Muon` takes
    matrices only, so a convolution's weights could not be given to it.)
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    stacks[p.shape].append(p)
            for stack in stacks.values():
                self._update(stack, group)

    def _update(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        stack: list[Tensor] = list(params)
        grads = [p.grad for p in stack if p.grad is not None]
        buffers = [self.state[p].setdefault("momentum", torch.zeros_like(p)) for p in stack]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])
        flat = torch.stack([g.reshape(g.shape[0], -1) for g in nesterov])  # [B,m,n]
        update = orthogonalize(flat) * max(1.0, flat.shape[-2] / flat.shape[-1]) ** 0.5
        if group["weight_decay"]:
            torch._foreach_mul_(stack, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(
            stack, [u.reshape(p.shape) for u, p in zip(update, stack, strict=True)], alpha=-group["lr"]
        )


class Optimizer:
    """The optimizers of one model as one: Muon for its inner matrices where asked, AdamW for the rest."""

    def __init__(self, model: nn.Module, config: OptimConfig, steps: int) -> None:
        self.config, self.steps = config, steps
        matrices, rest = split_parameters(model) if config.muon_lr else ([], list(model.parameters()))
        self.params = matrices + rest
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, config.lr, config.betas, weight_decay=config.weight_decay, foreach=True)
        ]
        if matrices:
            self.parts.append(Muon(matrices, config.muon_lr, weight_decay=config.weight_decay))
        self.rates = [part.param_groups[0]["lr"] for part in self.parts]

    def step(self, step: int) -> Tensor:
        """One update; returns the gradient's norm before clipping, a scalar."""
        norm = torch.nn.utils.clip_grad_norm_(self.params, self.config.clip or float("inf"), foreach=True)
        for part, rate in zip(self.parts, self.rates, strict=True):
            part.param_groups[0]["lr"] = rate * self.config.rate(step, self.steps)
            part.step()
            part.zero_grad(set_to_none=True)
        return norm

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        for part, state in zip(self.parts, states, strict=True):
            part.load_state_dict(state)


OUTER = {"stem", "head", "text_head", "time_in", "level_in", "times", "label", "positions"}
"""Layers, by name, that a network begins or ends with, and tables of embeddings."""


def split_parameters(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """(inner matrices and convolutions, everything else): embeddings, first and last layers stay with AdamW."""
    matrices: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, p in model.named_parameters():
        embedding = name.startswith("text.") and not name.startswith("text.blocks.")
        (rest if p.ndim < 2 or embedding or OUTER & set(name.split(".")) else matrices).append(p)
    return matrices, rest


class Averages:
    """Exponential moving averages of a model's weights, one for each decay.

    A decay is reached gradually, min(decay, (1 + step) / (10 + step)), so that the first steps are forgotten.
    """

    def __init__(self, model: nn.Module, decays: Sequence[float]) -> None:
        self.source = dict(model.named_parameters())
        self.weights = {d: {k: p.detach().clone() for k, p in self.source.items()} for d in decays}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights as they are after step `step` (from 0)."""
        new: list[Tensor] = list(self.source.values())
        for decay, weights in self.weights.items():
            d = min(decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(list(weights.values()), new, 1 - d)
