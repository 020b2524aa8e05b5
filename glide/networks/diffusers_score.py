"""A score network of diffusers (NCSN++ as a UNet2DModel; score-based models, 2011.13456) in the place of a U-Net.

It was trained on y = y0 + s eps, pictures y0 in [0, 1] and noise whose deviation s grows without bound ("variance
exploding"), and estimates the score -eps / s. With y0 = (x0 + 1) / 2 and r = 2 s, the same noise beside pictures x0 in
[-1, 1], x_t = (2 y - 1) / sqrt(1 + r^2) is a state of the process with alpha_bar = 1 / (1 + r^2), and eps is -s times
the score: solvers and guidances see a network that predicts eps.

Shape letters: N batch, C channels, H W pixels, T training timesteps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from glide.diffusion.process import Process
from glide.networks.config import UNetConfig
from glide.networks.diffusers_model import DiffusersUNet


class DiffusersScoreUNet(DiffusersUNet):
    """A score network as one that predicts eps."""

    def __init__(self, network: nn.Module, config: UNetConfig, process: Process) -> None:
        """process: of training, whose alpha_bar gives the noise of each timestep."""
        super().__init__(network, config)
        self.ratios = torch.from_numpy(np.sqrt(1.0 / process.alpha_bar - 1.0)).float()  # [T]  r

    def run_network(self, x: Tensor, t: Tensor, conditions: Mapping[str, Tensor]) -> Tensor:
        """x [N,C,H,W], t [N] training timesteps -> eps [N,C,H,W]."""
        ratio = self.ratios.to(t.device)[t][:, None, None, None]  # [N,1,1,1]
        y = (x * (1.0 + ratio**2).sqrt() + 1.0) / 2.0
        s = ratio / 2.0
        return -s * super().run_network(y, s.flatten(), conditions).float()

    def lower_(self, dtype: torch.dtype) -> Self:
        """Round all weights but the frequencies of the noise's embedding, which are as large as 50: rounded, they would
        turn its phases by radians."""
        frequencies = self.network.time_proj.weight.detach().clone()
        self.to(dtype)
        self.network.time_proj.weight = nn.Parameter(frequencies, requires_grad=False)
        return self
