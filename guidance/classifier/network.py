"""The noisy classifier: log p(y | x_t) of a picture at any noise level (ADM, 2105.05233, section 4).

Shape letters: N batch, C channels, H W pixels, K classes, L tokens, F features.
"""

from __future__ import annotations

from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.process import Process
from glide.networks.cpu import dispatch
from glide.networks.first_stage import stage_of
from glide.networks.layers import GroupNorm, zero_init
from glide.networks.unet import Encoder
from guidance.classifier.config import ClassifierConfig

HIDDEN = 2048  # width of the spatial pools


class AttentionPool(nn.Module):
    """[N,C,H,W] -> [N,K]: the mean of all places asks all places (the pooling of CLIP, 2103.00020, section 2.4)."""

    def __init__(self, side: int, channels: int, heads: int, num_classes: int) -> None:
        super().__init__()
        assert channels % heads == 0
        self.heads = heads
        self.positions = nn.Parameter(torch.randn(channels, 1 + side**2) / channels**0.5)  # the mean's first
        self.qkv = nn.Linear(channels, 3 * channels)
        self.head = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1).flatten(1, 2)  # [N,HW,C], free when x is channels_last
        x = torch.cat([x.mean(dim=1, keepdim=True), x], dim=1)  # [N,L,C], L = 1 + HW
        x = x + self.positions.mT.to(x.dtype)
        mean = dispatch.self_attention(
            self.qkv(x), self.heads, queries=1
        )  # [N,1,C]: only the mean's answer is looked at
        return self.head(mean[:, 0].to(self.head.weight.dtype))


class MeanPool(nn.Module):
    """[N,C,H,W] -> [N,K]: "adaptive", the mean of all places and one layer."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.head = zero_init(nn.Linear(channels, num_classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(dim=(2, 3)).to(self.head.weight.dtype))


class LevelPool(nn.Module):
    """[N,F] -> [N,K]: "spatial", a layer over the means of every activation of the trunk; `norm`: "spatial_v2"."""

    def __init__(self, features: int, num_classes: int, norm: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(features, HIDDEN)
        self.norm = GroupNorm(HIDDEN) if norm else None
        self.head = nn.Linear(HIDDEN, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.hidden(x.to(self.hidden.weight.dtype))
        x = F.relu(x) if self.norm is None else F.silu(self.norm(x))
        return self.head(x.to(self.head.weight.dtype))


class NoisyClassifier(nn.Module):
    """The down path of a U-Net, then a pool. Pictures, or latents, are of the configured resolution."""

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        self.first_stage = stage_of(config.first_stage)
        """From pictures to what it sees."""
        self.encoder = Encoder(config.encoder)
        width, k = self.encoder.width, config.num_classes
        self.norm = None if self.spatial else GroupNorm(width)
        self.pool: nn.Module
        if config.pool == "attention":
            side = config.encoder.image_size // config.encoder.patch_size // self.encoder.factor
            self.pool = AttentionPool(side, width, config.encoder.heads(width), k)
        elif config.pool == "adaptive":
            self.pool = MeanPool(width, k)
        else:
            features = sum(self.encoder.skip_widths) + width
            self.pool = LevelPool(features, k, norm=config.pool == "spatial_v2")

    @property
    def spatial(self) -> bool:
        return self.config.pool.startswith("spatial")

    @cached_property
    def process(self) -> Process:
        return self.config.process.build()

    @property
    def device(self) -> torch.device:
        return self.encoder.stem.weight.device

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x [N,C,H,W] at training timesteps t, LongTensor [N] -> logits [N,K]."""
        cond = Conditioning()
        activations = self.encoder.encode(x, self.encoder.embed(t, cond), cond)
        if self.spatial:
            return self.pool(torch.cat([h.float().mean(dim=(2, 3)) for h in activations], dim=1))  # [N,F]
        assert self.norm is not None
        *_, h = activations
        return self.pool(self.norm(h, silu=True))
