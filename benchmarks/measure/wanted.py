"""The work that another package is asked for, beside this project's networks.

Shape letters: B pictures, N rows of a network call, h w pixels of a low-resolution picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from glide.networks.config import ModelConfig


@dataclass(frozen=True)
class Wanted:
    """The pictures to draw."""

    config: ModelConfig
    batch: int
    steps: int
    dtype: str
    device: torch.device

    @property
    def guided(self) -> bool:
        """A base model is, by two evaluations for each picture."""
        return not self.config.low_res

    @property
    def rows(self) -> int:
        """N of a network call."""
        return self.batch * (1 + self.guided)

    def planes(self) -> Tensor:
        """Random pictures to enlarge [B,3,h,w]."""
        side = self.config.low_res_size
        generator = torch.Generator().manual_seed(self.batch)
        return (2 * torch.rand(self.batch, 3, side, side, generator=generator) - 1).to(self.device)


Drawer = Callable[[], Iterator[object]]
"""Begins a sampling loop, which yields after every step."""

Maker = Callable[[Wanted], tuple[nn.Module, Drawer]]
"""The network, and what draws with it as it is then."""
