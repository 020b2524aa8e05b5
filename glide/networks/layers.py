"""The small layers of which all networks here are made: embeddings, coordinates, norms, dropout.

Shape letters: N batch, C channels, H W pixels, I O inputs and outputs of a linear layer.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.cpu import dispatch
from glide.networks.normalization import ScaleShift


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features of the timestep, cosines first (Ho et al. 2006.11239; the order is ADM's).

    [cos(t f_k), sin(t f_k)], f_k = max_period^(-k / half), k = 0 .. half - 1, with half = dim // 2.

    t: [N] timesteps, which may be fractions. Returns [N,dim] float32.
    """
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    args = t[:, None].float() * freqs[None]
    return F.pad(torch.cat([args.cos(), args.sin()], dim=-1), (0, dim % 2))


def patches(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """[N,C,H*size,W*size] -> [N,H,W,C*size^2]: `pixel_unshuffle`, in the memory format that convolutions want."""
    cells = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # [N,C,H,size,W,size]
    cells = cells.permute(0, 2, 4, 1, 3, 5)
    # One copy; none for patches of a single pixel of a picture that is channels_last already.
    return cells.to(dtype, memory_format=torch.contiguous_format).contiguous().flatten(3)


def coordinates(h: int, w: int, octaves: int, device: torch.device) -> Tensor:
    """Positions in an h x w grid: sines and cosines of pi/2 * 2^k * u, k = 0 .. octaves - 1, for u = x and u = y.

    x and y run from -1 to 1 over the grid. Returns [h,w,4*octaves], which is shared with later calls: do not write to
    it. (The idea is CoordConv's, 1807.03247; the features are those of 2006.10739.)
    """
    if torch.compiler.is_compiling():  # which keeps constants by itself
        return _coordinates.__wrapped__(h, w, octaves, device)
    with torch.inference_mode(False):  # an inference tensor could not be used where a gradient is taken later
        return _coordinates(h, w, octaves, device)


@lru_cache(maxsize=64)
def _coordinates(h: int, w: int, octaves: int, device: torch.device) -> Tensor:
    # Cached: computed in every layer, these small operations were a twentieth of a step with one picture.
    scale = math.pi / 2 * 2.0 ** torch.arange(octaves, device=device)  # [K]

    def waves(size: int) -> Tensor:
        u = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        angle = u[:, None] * scale  # [size,K]
        return torch.cat([angle.sin(), angle.cos()], dim=-1)  # [size,2K]

    across, down = waves(w)[None].expand(h, -1, -1), waves(h)[:, None].expand(-1, w, -1)
    return torch.cat([across, down], dim=-1)  # [h,w,4K]


class GroupNorm(nn.GroupNorm):
    """Group norm (1803.08494) with ADM's 32 groups, or the largest number of groups that divides narrow layers.

    groups: another number of them; 1 takes all channels of a picture together.
    """

    def __init__(self, channels: int, groups: int = 32) -> None:
        super().__init__(math.gcd(groups, channels), channels)

    def forward(self, x: Tensor, scale_shift: ScaleShift | None = None, silu: bool = False) -> Tensor:
        """norm(x) (1 + scale) + shift, then SiLU if `silu`: [N,C,H,W] -> [N,C,H,W]."""
        return dispatch.group_norm(self, x, scale_shift, silu)


class PixelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel by itself, as in restoration networks (2204.04676).

    Unlike a group norm's, its statistics do not depend on the other pixels, so not on the size of a crop either.
    """

    def forward(self, x: Tensor, scale_shift: ScaleShift | None = None, silu: bool = False) -> Tensor:
        """norm(x) (1 + scale) + shift, then SiLU if `silu`: [N,C,H,W] -> [N,C,H,W]."""
        return dispatch.pixel_norm(self, x, scale_shift, silu)


def norm(channels: int, local: bool) -> GroupNorm | PixelNorm:
    """A pixel norm where no layer may see the whole picture, else ADM's group norm."""
    return PixelNorm(channels) if local else GroupNorm(channels)


class StandardizedConv2d(nn.Conv2d):
    """A convolution whose weights are standardised before each use (1903.10520, eq. 5), for a norm that follows.

    w' = (w - mean) / sqrt(variance + eps), over the weights of each output channel
    """

    EPS = 1e-5

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,H',W']."""
        weight = self.weight.float()  # [O,C,k,k]; squares lose their last bits in half precision
        variance, mean = torch.var_mean(weight, dim=(1, 2, 3), correction=0, keepdim=True)  # [O,1,1,1]
        weight = (weight - mean) * torch.rsqrt(variance + self.EPS)
        return self._conv_forward(x, weight.to(self.weight.dtype), self.bias)


M = TypeVar("M", bound=nn.Module)


def zero_init(module: M) -> M:
    """Set all parameters to zero, so that a residual block begins as the identity. Returns the module."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class Dropout(nn.Module):
    """Dropout (1207.0580) whose masks can depend on a row's number alone.

    With `rows` = (seed, first) row i of the input gets the mask of row first + i, whatever the other rows are: a batch
    in parts, or over several processes, then loses the same activations as in one piece. Masks are sampled from the
    seed in every call, so they are the same when gradient checkpointing computes activations twice.
    """

    BLOCK = 8  # rows that share one generator: a generator for each row would be slow on a GPU

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.rows: tuple[int, int] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C,H,W]."""
        if not self.training or not self.p:
            return x
        if self.rows is None:
            return F.dropout(x, self.p)
        seed, first = self.rows
        n, c, h, w = x.shape
        start = first // self.BLOCK
        stop = -(-(first + n) // self.BLOCK)
        mask = torch.empty((stop - start) * self.BLOCK, h, w, c, dtype=x.dtype, device=x.device)  # [M,H,W,C]
        for i, block in enumerate(mask.split(self.BLOCK)):
            generator = torch.Generator(x.device).manual_seed((seed + start + i) % 2**63)
            block.bernoulli_(1 - self.p, generator=generator)
        own = mask[first - start * self.BLOCK :][:n].permute(0, 3, 1, 2)  # [N,H,W,C] -> [N,C,H,W]
        return x * own.div_(1 - self.p)


ROWS = 8
"""Multiple to which `linear_by_rows` pads its batch."""


def linear_by_rows(layer: nn.Linear, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A linear layer whose rows do not depend on how many rows there are: [N,I] -> [N,O].

    A product of one or two rows is summed in another order than one of many. These last bits would be the only
    difference between a picture drawn alone and the same picture among others, and bfloat16 turns them into several
    grey levels. So a network of reduced precision that draws on a CPU pads the batch with zeros to a multiple of ROWS.
    dtype: the network's.
    """
    padding = -len(x) % ROWS
    if not padding or dtype == torch.float32 or x.device.type != "cpu" or torch.is_grad_enabled():
        return layer(x)
    return layer(F.pad(x, (0, 0, 0, padding)))[: len(x)]
