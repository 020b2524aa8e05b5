"""The image half of a CLIP: a vision transformer (2010.11929) whose class token is the timestep.

Shape letters: N batch, C channels, H W pixels, h w patches, D width, E embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.gradient_checkpointing import checkpointed
from glide.networks.layers import GroupNorm, timestep_embedding
from glide.networks.transformer import TransformerBlock
from glide.utils.config_check import Entries, need
from glide.utils.numbers import Range


@dataclass(frozen=True)
class ImageConfig:
    """Sizes of the image transformer."""

    size: Annotated[int, Range(1, 16384)] = 64
    """Pixels, wide and high."""
    patch: Annotated[int, Range(1, 4096)] = 4
    """Pixels that one token stands for, wide and high."""
    width: Annotated[int, Range(2, 65536)] = 768
    layers: Annotated[int, Range(0, 1000)] = 12
    heads: Annotated[int, Range(1, 65536)] = 12
    stem: Annotated[tuple[int, ...], Range(1, 65536), Entries(12)] = ()
    """Channels of strided 3x3 convolutions in front of the patches, each of which halves the picture; none in the
    published model. With them small models learn from far fewer pictures (2106.14881)."""
    pool: Literal["token", "mean"] = "token"
    """Read out at the timestep's token, or at the mean of all tokens: a small model with the first took hundreds of
    steps to see the picture at all, with the second none."""

    def check(self) -> None:
        """InputError for sizes that do not fit each other."""
        need(
            self.width % self.heads == 0,
            f"an image width of {self.width} cannot be split into {self.heads} attention heads, expected a multiple",
        )
        need(
            self.size % self.patch == 0 and self.patch % 2 ** len(self.stem) == 0,
            f"a size of {self.size} pixels cannot be cut into patches of {self.patch} behind a stem of "
            f"{len(self.stem)} layers, expected multiples",
        )

    @property
    def grid(self) -> int:
        """Tokens of a row of the picture."""
        return self.size // self.patch


class Patches(nn.Module):
    """A picture to one token for each patch: [N,3,H,W] -> [N,h*w,D]."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        channels = (3, *config.stem)
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(channels, config.stem, strict=False)
        )
        self.norms = nn.ModuleList(GroupNorm(c) for c in config.stem)
        kernel = config.patch // 2 ** len(config.stem)
        self.patch = nn.Conv2d(channels[-1], config.width, kernel, stride=kernel)

    def forward(self, x: Tensor) -> Tensor:
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.silu(norm(conv(x)))
        return self.patch(x).flatten(2).mT  # [N,D,h,w] -> [N,h*w,D]


class ImageEncoder(nn.Module):
    """Noised pictures to embeddings, not normalised.

    A table holds an embedding of each training timestep. It stands where other vision transformers have their class
    token, so every patch can see how noisy the picture is (the noised CLIP of GLIDE, 2112.10741, section 2.4).
    """

    def __init__(self, config: ImageConfig, steps: int, embedding: int) -> None:
        super().__init__()
        assert config.pool in ("token", "mean")
        self.pool = config.pool
        self.gradient_checkpointing = False
        self.stem = Patches(config)
        self.times = nn.Embedding(steps, config.width)
        self.positions = nn.Parameter(torch.empty(1 + config.grid**2, config.width))
        self.norm_in = nn.LayerNorm(config.width)
        self.blocks = nn.ModuleList(
            TransformerBlock(config.width, config.heads) for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, embedding, bias=False)
        with torch.no_grad():
            # Smooth tables: neighbouring timesteps and patches begin alike, so few pictures teach them all.
            self.times.weight.copy_(timestep_embedding(torch.arange(steps), config.width))
            self.positions.copy_(_grid_positions(config.grid, config.width))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t [N,3,H,W], training timesteps t [N] int64 -> [N,E]."""
        h = torch.cat([self.times(t)[:, None], self.stem(x)], dim=1) + self.positions  # [N,1+h*w,D]
        h = self.norm_in(h)
        for block in self.blocks:
            h = checkpointed(block, h, enabled=self.gradient_checkpointing)
        h = self.norm(h)
        return self.head(h[:, 0] if self.pool == "token" else h.mean(dim=1))


def _grid_positions(grid: int, width: int) -> Tensor:
    """[1+grid*grid, width]: zero for the class token, sines and cosines of each patch's column and row."""
    where = torch.arange(grid)
    features = 0.5 * timestep_embedding(where, width // 2, max_period=100.0)  # [grid,D/2]
    columns = features[None].expand(grid, -1, -1)  # [h,w,D/2]
    patches = torch.cat([columns, columns.transpose(0, 1)], dim=-1).flatten(0, 1)  # [h*w,D]
    return F.pad(patches, (0, width - patches.shape[1], 1, 0))
