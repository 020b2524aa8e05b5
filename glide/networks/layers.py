"""The small parts every network here is made of.

Shape letters: N batch, C channels, H W pixels, L tokens, D token width, E embedding width.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from glide.networks.attention import cross_attention, self_attention
from glide.networks.cpu import fused as fused
from glide.networks.cpu.prepacked import added


def timestep_embedding(t: Tensor, dim: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoidal features of the timestep, cosines first (Ho et al. 2006.11239; the order is ADM's).

    t: [N] timesteps, need not be whole. Returns [N, dim] float32.
    """
    half = dim // 2
    freqs = torch.exp(-math.log(max_period) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    args = t[:, None].float() * freqs[None]
    return F.pad(torch.cat([args.cos(), args.sin()], dim=-1), (0, dim % 2))


def patches(x: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """[N,C,H*size,W*size] -> [N,H,W,C*size^2]: `pixel_unshuffle`, in the order in which convolutions want it."""
    cells = x.unflatten(3, (-1, size)).unflatten(2, (-1, size))  # [N,C,H,size,W,size]
    cells = cells.permute(0, 2, 4, 1, 3, 5)
    # in one copy, or none where a picture that is channels_last already has single pixels for patches
    return cells.to(dtype, memory_format=torch.contiguous_format).contiguous().flatten(3)


def coordinates(h: int, w: int, octaves: int, device: torch.device) -> Tensor:
    """Where each cell of an h x w grid is: sines and cosines of pi/2 * 2^k * u, k = 0 .. octaves - 1, of x and of y.

    x and y run from -1 to 1 over the grid. Returns [h,w,4*octaves], which is kept for the next call: not to be written
    over. (The idea is CoordConv's, 1807.03247; the features are those of 2006.10739.)
    """
    if torch.compiler.is_compiling():  # it keeps constants by itself
        return _coordinates.__wrapped__(h, w, octaves, device)
    with torch.inference_mode(False):  # else of no use where a gradient is taken later
        return _coordinates(h, w, octaves, device)


@lru_cache(maxsize=64)
def _coordinates(h: int, w: int, octaves: int, device: torch.device) -> Tensor:
    # Kept: anew in each layer, these small operations were a twentieth of a step with one picture.
    scale = math.pi / 2 * 2.0 ** torch.arange(octaves, device=device)  # [K]

    def waves(size: int) -> Tensor:
        u = (torch.arange(size, device=device) + 0.5) / size * 2 - 1
        angle = u[:, None] * scale  # [size,K]
        return torch.cat([angle.sin(), angle.cos()], dim=-1)  # [size,2K]

    across, down = waves(w)[None].expand(h, -1, -1), waves(h)[:, None].expand(-1, w, -1)
    return torch.cat([across, down], dim=-1)  # [h,w,4K]


Told = tuple[Tensor, Tensor]
"""What an embedding says after a norm, scale and shift [N,C,1,1]."""


class GroupNorm(nn.GroupNorm):
    """Group norm with ADM's 32 groups, or the largest number that divides narrow layers."""

    def __init__(self, channels: int) -> None:
        super().__init__(math.gcd(32, channels), channels)

    def forward(self, x: Tensor, told: Told | None = None, silu: bool = False) -> Tensor:
        """norm(x) (1 + scale) + shift, through SiLU where asked: [N,C,H,W] -> [N,C,H,W]."""
        if _fuses(x):
            return fused.norm(x, self.num_groups, self.weight, self.bias, self.eps, told, silu)
        if self._slow(x):
            y = super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        else:
            y = super().forward(x)
        return _modulated(y, told, silu)

    def _slow(self, x: Tensor) -> bool:
        """Whether PyTorch's channels_last kernel takes longer than the plain one and two copies around it.

        Measured on CPUs, in half precision alone: groups narrower than a vector register take it up to ten times as
        long, but for large pictures, where another kernel takes over, which is only slow backward.
        """
        if x.device.type != "cpu" or not x.is_contiguous(memory_format=torch.channels_last):
            return False
        narrow = self.num_channels // self.num_groups < 16
        small = x.shape[-2] * x.shape[-1] < 1024
        return _half(x) and narrow and (small or torch.is_grad_enabled())


class PixelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel by itself, as restoration networks have it (2204.04676).

    Unlike a group norm's, its statistics do not depend on what else is seen, so neither on how large a crop is.
    """

    def forward(self, x: Tensor, told: Told | None = None, silu: bool = False) -> Tensor:
        """norm(x) (1 + scale) + shift, through SiLU where asked: [N,C,H,W] -> [N,C,H,W]."""
        if _fuses(x):
            return fused.norm(x, 0, self.weight, self.bias, self.eps, told, silu)
        y = super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # free when x is channels_last
        return _modulated(y, told, silu)


Norm = GroupNorm | PixelNorm


def norm(channels: int, local: bool) -> Norm:
    """A pixel's norm where nothing may see the picture as a whole, else ADM's."""
    return PixelNorm(channels) if local else GroupNorm(channels)


def _fuses(x: Tensor) -> bool:
    """Whether all that a norm does is done in one go, which has no second derivatives."""
    return fused.takes(x) and not fused.plain_wanted()


def _modulated(x: Tensor, told: Told | None, silu: bool) -> Tensor:
    if told is not None:
        scale, shift = told
        x = torch.addcmul(shift, x, 1 + scale)
    return F.silu(x) if silu else x


M = TypeVar("M", bound=nn.Module)


def zero_init(module: M) -> M:
    """Zero the parameters, so that a residual branch begins as the identity."""
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class Dropout(nn.Module):
    """Dropout (1207.0580) whose masks can be made to depend on a row's number alone.

    With `rows` = (seed, first) row i of the input gets the mask of row first + i, whatever rows are beside it: a batch
    in parts, or over several processes, then loses the same activations as in one piece. Masks are drawn anew from the
    seed, so they are the same when activations are computed twice.
    """

    BLOCK = 8  # rows whose masks come of one generator: a call for each row would be slow on a GPU

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
        mask = torch.empty((stop - start) * self.BLOCK, h, w, c, dtype=x.dtype, device=x.device)
        for i, block in enumerate(mask.split(self.BLOCK)):
            generator = torch.Generator(x.device).manual_seed((seed + start + i) % 2**63)
            block.bernoulli_(1 - self.p, generator=generator)
        own = mask[first - start * self.BLOCK :][:n].permute(0, 3, 1, 2)  # [N,H,W,C] -> [N,C,H,W]
        return x * own.div_(1 - self.p)


def _half(x: Tensor) -> bool:
    return torch.finfo(x.dtype).bits < 32


class TransformerBlock(nn.Module):
    """Pre-norm attention and MLP over tokens (GPT-2's block): of captions, and of a picture's patches.

    causal: token i sees tokens 0 to i only.
    """

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.norm_attn = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = zero_init(nn.Linear(width, width))
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = zero_init(nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """x [N,L,D] -> [N,L,D]."""
        y = self_attention(self.qkv(self.norm_attn(x)), self.heads, causal=self.causal)
        x = x + self.proj(y)
        return x + self.mlp_out(F.gelu(self.mlp_in(self.norm_mlp(x))))


def run(block: nn.Module, *inputs: Tensor | bool | None, again: bool) -> Tensor:
    """block(*inputs). again: where gradients are taken, forget its activations and compute them again for these."""
    if again and torch.is_grad_enabled():
        if fused.plain_wanted():
            # backward takes place outside of the caller's choice, and must find the same activations
            return checkpoint(block, *inputs, use_reentrant=False, context_fn=_plain_again)
        return checkpoint(block, *inputs, use_reentrant=False)
    return block(*inputs)


class _Plain(AbstractContextManager[None]):
    """Plain operations within, as often as it is entered: once for each derivative."""

    def __enter__(self) -> None:
        self._chosen = sdpa_kernel(SDPBackend.MATH)
        self._chosen.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._chosen.__exit__(*error)


def _plain_again() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _Plain()


class Downsample(nn.Module):
    """Strided 3x3 convolution: [N,C,H,W] -> [N,C,H/2,W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution: [N,C,H,W] -> [N,C,2H,2W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(upsample_nearest(x))


def upsample_nearest(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample_mean(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 2)


ROWS = 8


def linear_by_rows(layer: nn.Linear, x: Tensor, dtype: torch.dtype) -> Tensor:
    """[N,I] -> [N,O]; where a network of reduced precision draws on a CPU, zeros make up a multiple of ROWS rows.

    A product of one or two rows is summed in another order than one of many. Its last bits are all in which a picture
    drawn alone differs from the same one among others, and bfloat16 makes several levels of them. dtype: the network's.
    """
    missing = -len(x) % ROWS
    if not missing or dtype == torch.float32 or x.device.type != "cpu" or torch.is_grad_enabled():
        return layer(x)
    return layer(F.pad(x, (0, 0, 0, missing)))[: len(x)]


class ResBlock(nn.Module):
    """ADM's residual block (2105.05233, appendix A), conditioned on an embedding.

    With `scale_shift` the embedding scales and shifts the second norm (adaptive group norm, section 3.1),
    otherwise it is added before it. `resample` "down" or "up" changes the resolution inside the block. With `local`
    the norms take each pixel by itself.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_width: int,
        dropout: float = 0.0,
        scale_shift: bool = True,
        resample: str = "",
        local: bool = False,
    ) -> None:
        super().__init__()
        self.scale_shift = scale_shift
        self.resample = {"": None, "down": downsample_mean, "up": upsample_nearest}[resample]
        self.norm_in = norm(channels, local)
        self.conv_in = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.emb = nn.Linear(emb_width, 2 * out_channels if scale_shift else out_channels)
        self.norm_out = norm(out_channels, local)
        self.dropout = Dropout(dropout)
        self.conv_out = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x [N,C,H,W], emb [N,E] (already through its SiLU), both in the weights' type -> [N,out_channels,H',W']."""
        h = self.norm_in(x, silu=True)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv_in(h)
        e = linear_by_rows(self.emb, emb, emb.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm_out(h, (scale, shift), silu=True)
        else:
            h = self.norm_out(h + e, silu=True)
        own = not isinstance(self.skip, nn.Identity)  # x itself may be wanted elsewhere
        return added(self.conv_out, self.dropout(h), self.skip(x), onto=own)


class Attention(nn.Module):
    """Self-attention over the pixels; text tokens, where given, join the keys and values (GLIDE, 2112.10741).

    Projections hold q, k, v one after the other, each with its heads side by side; the layouts of published
    checkpoints are permuted into this one when they are read (`glide.checkpoints.openai.convert`).
    """

    def __init__(self, channels: int, heads: int, token_width: int = 0, octaves: int = 0) -> None:
        """octaves: over 0, each pixel is also told where it is, by so many octaves of `coordinates`."""
        super().__init__()
        assert channels % heads == 0
        self.heads, self.octaves = heads, octaves
        self.norm = GroupNorm(channels)
        self.place = zero_init(nn.Linear(4 * octaves, channels)) if octaves else None
        self.qkv = nn.Linear(channels, 3 * channels)
        self.token_kv = nn.Linear(token_width, 2 * channels) if token_width else None
        self.proj = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, kv: Tensor | None = None, identity: bool = False) -> Tensor:
        """x [N,C,H,W], kv [N,L,2C] keys and values of tokens, by `token_kv` -> [N,C,H,W].

        identity: each pixel attends to itself alone, the map of perturbed-attention guidance (2403.17377).
        """
        n, c, h, w = x.shape
        y = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)  # free when x is channels_last
        if self.place is not None:
            where = coordinates(h, w, self.octaves, x.device).flatten(0, 1)
            y = y + self.place(where).to(y.dtype)  # [HW,C]
        qkv = self.qkv(y)  # [N,HW,3C]
        y = qkv[..., 2 * c :] if identity else self_attention(qkv, self.heads, kv)
        return x + self.proj(y).reshape(n, h, w, c).permute(0, 3, 1, 2)


class TokenAttention(nn.Module):
    """Attention of each pixel to the text tokens alone: the same whatever else is in the picture."""

    def __init__(self, channels: int, heads: int, token_width: int) -> None:
        super().__init__()
        assert channels % heads == 0
        self.heads = heads
        self.norm = PixelNorm(channels)
        self.q = nn.Linear(channels, channels)
        self.token_kv = nn.Linear(token_width, 2 * channels)
        self.proj = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, kv: Tensor) -> Tensor:
        """x [N,C,H,W], kv [N,L,2C] keys and values of tokens, by `token_kv` -> [N,C,H,W]."""
        n, c, h, w = x.shape
        q = self.q(self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c))
        y = self.proj(cross_attention(q, kv, self.heads))
        return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)
