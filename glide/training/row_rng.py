"""Random numbers of training for each row of a batch, independent of how the batch is divided.

Row i of the batch of a step has its own generators, seeded by (seed, step, i) alone. So the whole batch in one call,
the same batch in parts, and the same batch over several processes train on the same noise.

Shape letters: N rows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from glide.diffusion.samplers.base import SeededNoise
from glide.networks.layers import Dropout

_WORD = 2**64 - 1


def derive_seed(*numbers: int) -> int:
    """Hash several whole numbers to a seed from 0 to 2**63 - 1; close numbers get distant seeds.

    Each number is added and mixed in by the finalizer of SplitMix64 (Steele, Lea and Flood, 2014, figure 15).
    """
    state = 0
    for number in numbers:
        state = (state + number + 0x9E3779B97F4A7C15) & _WORD
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _WORD
        state ^= state >> 31
    return state >> 1


class RowRng:
    """Random numbers for some rows of the batch of one step; each call is the next draw."""

    def __init__(self, seed: int, rows: Iterable[int]) -> None:
        """seed: of the step. rows: their numbers in the whole batch."""
        self.seeds = [derive_seed(seed, row) for row in rows]
        self.noise = SeededNoise(self.seeds)
        self.on_gpu: list[torch.Generator] = []

    def normal(self, like: Tensor) -> Tensor:
        """Unit Gaussians in the shape, type and place of `like` [N,...].

        For a GPU they are drawn on it, by generators with the same seeds but other numbers than a CPU's: one core draws
        and sends about 8,000 rows of 64x64 a second, and a GPU trains on more.
        """
        if like.device.type != "cuda":
            return self.noise(like)
        if not self.on_gpu:
            self.on_gpu = [torch.Generator(like.device).manual_seed(seed) for seed in self.seeds]
        drawn = torch.empty(like.shape, device=like.device)
        for row, generator in zip(drawn, self.on_gpu, strict=True):
            row.normal_(generator=generator)
        return drawn.to(like.dtype)

    def uniform(self) -> Tensor:
        """Numbers from 0 to 1, float32 [N], on the CPU."""
        return torch.cat([torch.rand(1, generator=generator) for generator in self.noise.generators])


class DropoutRows:
    """Sets the step and rows of a network's dropout layers (see `glide.networks.layers.Dropout`)."""

    def __init__(self, model: nn.Module) -> None:
        self.layers = [module for module in model.modules() if isinstance(module, Dropout) and module.p]

    def at(self, seed: int, first: int) -> None:
        """seed: of the step. first: number, in the whole batch, of the next call's first row."""
        for index, layer in enumerate(self.layers):
            # layers count down from -1 and rows up from 0: no two share a seed
            layer.rows = (derive_seed(seed, -1 - index), first)

    def off(self) -> None:
        """Return to PyTorch's own dropout."""
        for layer in self.layers:
            layer.rows = None
