"""Models that do not fit: every process keeps a part of each weight (FSDP2, `torch.distributed.fsdp.fully_shard`).

What is done element by element (AdamW, averages) is done on the parts as they are; what needs a whole tensor (Muon's
matrices, checkpoints) gathers it. Where nothing is sharded, every function here hands its tensor back.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from glide.networks.blocks import UNetBlock
from glide.networks.transformer import TransformerBlock
from glide.training.distributed import Processes


def is_sharded(p: Tensor) -> bool:
    return hasattr(p, "placements")  # a DTensor; asked like this, torch.distributed need not be imported


def local(p: Tensor) -> Tensor:
    """The part of a weight or gradient that this process holds, in the same memory and without its history."""
    part: Tensor = p._local_tensor if is_sharded(p) else p  # type: ignore[attr-defined]
    return part.detach()


@torch.no_grad()
def whole(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor of which each process holds `part`, sharded as the weight `like` is. All processes call it."""
    if not is_sharded(like):
        return part
    from torch.distributed.tensor import DTensor

    placed: Any = like
    return DTensor.from_local(
        part,
        placed.device_mesh,
        placed.placements,
        run_check=False,
        shape=placed.shape,
        stride=placed.stride(),
    ).full_tensor()


@torch.no_grad()
def part_of(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, sharded as the weight `like` is. Nothing is sent."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    placed: Any = like
    whole = DTensor.from_local(tensor.to(placed.device), placed.device_mesh, [Replicate()], run_check=False)
    return whole.redistribute(placements=placed.placements).to_local()


def shard(module: nn.Module, processes: Processes) -> list[nn.Parameter]:
    """Share out the weights of a module over all processes, block by block; returns those that stay whole: scalars.

    Their gradients are each process's own and must be averaged by the caller.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # a map from tokens returns a view of its product; nobody writes into it, here or anywhere
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(processes.device.type, (processes.world,))
    scalars = {p for p in module.parameters() if p.ndim == 0}
    blocks = [m for m in module.modules() if isinstance(m, UNetBlock | TransformerBlock)]
    for part in (*blocks, module):
        fully_shard(part, mesh=mesh, ignored_params=scalars)
    return list(scalars)
