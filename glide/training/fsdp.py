"""Sharded training (FSDP2, `torch.distributed.fsdp.fully_shard`): every process keeps a part of each weight.

Element-wise operations (AdamW, averages) work on the parts; operations on whole tensors (Muon, checkpoints) gather
them. Without sharding, every function here returns its tensor unchanged.
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
    return hasattr(p, "placements")  # a DTensor; this test needs no import of torch.distributed


def to_local(p: Tensor) -> Tensor:
    """The part of a weight or gradient in this process, in the same memory and detached."""
    part: Tensor = p._local_tensor if is_sharded(p) else p  # type: ignore[attr-defined]
    return part.detach()


@torch.no_grad()
def full_tensor(part: Tensor, like: Tensor) -> Tensor:
    """The whole tensor from each process's `part`, sharded as the weight `like` is. All processes call it."""
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
def local_shard(tensor: Tensor, like: Tensor) -> Tensor:
    """This process's part of a whole tensor, sharded as the weight `like` is, without communication."""
    if not is_sharded(like):
        return tensor
    from torch.distributed.tensor import DTensor, Replicate

    placed: Any = like
    whole = DTensor.from_local(tensor.to(placed.device), placed.device_mesh, [Replicate()], run_check=False)
    return whole.redistribute(placements=placed.placements).to_local()


def shard(module: nn.Module, processes: Processes) -> list[nn.Parameter]:
    """Shard the weights of a module over all processes, block by block; returns the scalars, which stay whole.

    The caller must average the scalars' gradients over the processes.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # a linear layer over tokens returns a view of its product, into which nothing is written
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(processes.device.type, (processes.world,))
    scalars = {p for p in module.parameters() if p.ndim == 0}
    blocks = [m for m in module.modules() if isinstance(m, UNetBlock | TransformerBlock)]
    for part in (*blocks, module):
        fully_shard(part, mesh=mesh, ignored_params=scalars)
    return list(scalars)
