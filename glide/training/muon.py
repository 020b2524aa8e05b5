"""Muon: momentum with orthogonalized updates, for matrices and convolutions (Jordan et al., 2024)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from glide.training.fsdp import full_tensor, local_shard


@torch.no_grad()
def orthogonalize(g: Tensor, iterations: int = 5, dtype: torch.dtype = torch.float32) -> Tensor:
    """Approximate the nearest (semi-)orthogonal matrices of a stack [B,m,n]: singular values end in 0.7 to 1.2.

    Newton-Schulz with the quintic of Jordan et al., "Muon: an optimizer for hidden layers", 2024. dtype: of its matrix
    products, for which bfloat16 is exact enough.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    x = g.to(dtype)
    if tall := g.shape[-2] > g.shape[-1]:
        x = x.mT.contiguous()
    x = x / (x.float().norm(dim=(-2, -1), keepdim=True) + 1e-7).to(x.dtype)
    for _ in range(iterations):
        s = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(s, s, s, beta=b, alpha=c), x, beta=a)  # a x + (b s + c s s) x
    return (x.mT if tall else x).to(g.dtype)


class Muon(torch.optim.Optimizer):
    """Orthogonalized momentum for weights of two or more dimensions; convolutions are flattened to matrices.

    Jordan et al. 2024. Parameters of one shape are orthogonalized together. (`torch.optim.Muon` takes
    matrices only, so a convolution's weights could not be given to it.)
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        like: Mapping[nn.Parameter, nn.Parameter] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """like: for sharded weights, the model's weight of which each parameter is this process's part.

        dtype: of the matrix products (`orthogonalize`).
        """
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.like = like or {p: p for group in self.param_groups for p in group["params"]}
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        assert closure is None
        for group in self.param_groups:
            stacks: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    stacks[self.like[p].shape].append(p)
            for stack in stacks.values():
                self._update(stack, group)

    def _update(self, params: list[nn.Parameter], group: dict[str, Any]) -> None:
        stack: list[Tensor] = list(params)
        grads = [p.grad for p in stack if p.grad is not None]
        for p in stack:
            if "momentum" not in self.state[p]:
                self.state[p]["momentum"] = torch.zeros_like(p)
        buffers = [self.state[p]["momentum"] for p in stack]
        torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
        nesterov = torch._foreach_lerp(grads, buffers, group["momentum"])
        # sharded weights: whole matrices are gathered, and each process keeps its part
        likes = [self.like[p] for p in params]
        full = [full_tensor(g, like) for g, like in zip(nesterov, likes, strict=True)]
        flat = torch.stack([g.reshape(g.shape[0], -1) for g in full])  # [B,m,n]
        update = orthogonalize(flat, dtype=self.dtype) * max(1.0, flat.shape[-2] / flat.shape[-1]) ** 0.5
        parts = [
            local_shard(u.reshape(g.shape), like) for u, g, like in zip(update, full, likes, strict=True)
        ]
        if group["weight_decay"]:
            torch._foreach_mul_(stack, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(stack, parts, alpha=-group["lr"])
