"""The image encoder of a CLIP: a vision transformer (2010.11929) whose class token is the timestep.

Shape letters: N batch, C channels, H W pixels, h w patches, D width, E embedding width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.gradient_checkpointing import checkpointed
from glide.networks.image_config import ImageConfig
from glide.networks.layers import GroupNorm, timestep_embedding
from glide.networks.transformer import TransformerBlock


class Patches(nn.Module):
    """One token for each patch of a picture: [N,C,H,W] -> [N,h*w,D]."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__()
        channels = (config.channels, *config.stem)
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
    """Embeddings of noised pictures, not normalised.

    A table holds an embedding of each training timestep. It takes the place of the class token of other vision
    transformers, so every patch can attend to the noise level (the noised CLIP of GLIDE, 2112.10741, section 2.4).
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
            # Smooth tables: neighbouring timesteps and patches begin alike, so few pictures are enough to train all.
            self.times.weight.copy_(timestep_embedding(torch.arange(steps), config.width))
            self.positions.copy_(_grid_positions(config.grid, config.width))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t [N,C,H,W], training timesteps t [N] int64 -> [N,E]."""
        h = self.embed(x, t)
        for block in self.blocks:
            h = checkpointed(block, h, enabled=self.gradient_checkpointing)
        h = self.norm(h)
        return self.head(h[:, 0] if self.pool == "token" else h.mean(dim=1))

    def embed(self, x: Tensor, t: Tensor) -> Tensor:
        """The tokens that the first block receives, the timestep's first: [N,1+h*w,D]."""
        tokens = torch.cat([self.times(t)[:, None], self.stem(x)], dim=1) + self.positions
        return self.norm_in(tokens)

    def hidden(self, x: Tensor, t: Tensor) -> list[Tensor]:
        """The tokens after each block, [N,1+h*w,D]."""
        h, found = self.embed(x, t), []
        for block in self.blocks:
            h = block(h)
            found.append(h)
        return found


def _grid_positions(grid: int, width: int) -> Tensor:
    """[1+grid*grid, width]: zero for the class token, sines and cosines of each patch's column and row."""
    index = torch.arange(grid)
    features = 0.5 * timestep_embedding(index, width // 2, max_period=100.0)  # [grid,D/2]
    columns = features[None].expand(grid, -1, -1)  # [h,w,D/2]
    patches = torch.cat([columns, columns.transpose(0, 1)], dim=-1).flatten(0, 1)  # [h*w,D]
    return F.pad(patches, (0, width - patches.shape[1], 1, 0))
