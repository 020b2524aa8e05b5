"""The blocks of a U-Net: residual blocks, attention, and changes of resolution.

Shape letters: N batch, C channels, O output channels, H W pixels, L tokens, D token width, E embedding width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.cpu import dispatch
from glide.networks.layers import (
    Dropout,
    GroupNorm,
    PixelNorm,
    StandardizedConv2d,
    coordinates,
    linear_by_rows,
    norm,
    patches,
    zero_init,
)


class ResBlock(nn.Module):
    """ADM's residual block (2105.05233, appendix A), conditioned on an embedding.

    h = conv_in(silu(norm_in(x)))
    y = skip(x) + conv_out(dropout(silu(norm_out(h) (1 + scale) + shift)))

    With `scale_shift` the embedding gives scale and shift (adaptive group norm, section 3.1), otherwise it is added
    to h. `resample` "down" or "up" changes the resolution inside the block. With `local` the norms take each pixel by
    itself.
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
        """x [N,C,H,W], emb [N,E] (already through its SiLU), both in the weights' type -> [N,O,H',W']."""
        h = self.norm_in(x, silu=True)  # [N,C,H,W]
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)  # [N,C,H',W']
        h = self.conv_in(h)  # [N,O,H',W']
        e = linear_by_rows(self.emb, emb, emb.dtype)[:, :, None, None]  # [N,2O,1,1] or [N,O,1,1]
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)  # [N,O,1,1] each
            h = self.norm_out(h, (scale, shift), silu=True)
        else:
            h = self.norm_out(h + e, silu=True)
        residual = self.skip(x)  # [N,O,H',W']
        return dispatch.conv_add(self.conv_out, self.dropout(h), residual, overwrite=residual is not x)


class StandardizedResBlock(nn.Module):
    """The residual block of the annotated diffusion model: each convolution comes before its norm, with standardised
    weights (1903.10520).

    h = silu(norm_in(conv_in(x)) (1 + scale) + shift)
    y = skip(x) + silu(norm_out(conv_out(dropout(h))))
    """

    def __init__(self, channels: int, out_channels: int, emb_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv_in = StandardizedConv2d(channels, out_channels, 3, padding=1)
        self.norm_in = GroupNorm(out_channels)
        self.emb = nn.Linear(emb_width, 2 * out_channels)
        self.dropout = Dropout(dropout)
        self.conv_out = StandardizedConv2d(out_channels, out_channels, 3, padding=1)
        self.norm_out = GroupNorm(out_channels)
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x [N,C,H,W], emb [N,E] (already through its SiLU), both in the weights' type -> [N,O,H,W]."""
        scale, shift = linear_by_rows(self.emb, emb, emb.dtype)[:, :, None, None].chunk(2, dim=1)  # [N,O,1,1]
        h = self.norm_in(self.conv_in(x), (scale, shift), silu=True)  # [N,O,H,W]
        return self.skip(x) + self.norm_out(self.conv_out(self.dropout(h)), silu=True)


CONDITIONED = (ResBlock, StandardizedResBlock)
"""Residual blocks that receive the embedding."""


class Matrix(nn.Linear):
    """A projection whose weights are multiplied by those of another, so they keep PyTorch's layout."""


class LinearAttention(nn.Module):
    """Self-attention whose cost is linear in the number of pixels (efficient attention, 1812.01243, section 3.2).

    y = x + norm_out(proj(softmax(q) (softmax(k)^T v) / sqrt(d))), with q, k, v = projections of norm(x)

    q is normalised over the d channels of a head, k over the pixels, so each row of softmax(q) softmax(k)^T sums to
    one, as a row of softmax(q k^T) does. Heads have `HEAD` channels, whatever the width is. It attends to no text.

    v and proj are linear, so they are applied to the d rows of softmax(k)^T norm(x) rather than to all pixels.
    """

    HEAD = 32
    token_kv: None = None

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads, inner = heads, heads * self.HEAD
        self.norm = GroupNorm(channels, groups=1)
        self.q, self.k = nn.Linear(channels, inner, bias=False), nn.Linear(channels, inner, bias=False)
        self.v, self.proj = Matrix(channels, inner, bias=False), Matrix(inner, channels)
        self.norm_out = GroupNorm(channels, groups=1)

    def forward(self, x: Tensor, context_kv: None = None) -> Tensor:
        """[N,C,H,W] -> [N,C,H,W]."""
        n, c, h, w = x.shape
        y = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)  # [N,HW,C], free when x is channels_last
        q = torch.softmax(self.q(y).unflatten(-1, (self.heads, -1)), dim=-1).flatten(2)  # [N,HW,heads*d]
        k = torch.softmax(self.k(y), dim=1)  # [N,HW,heads*d]
        v = self.v.weight.unflatten(0, (self.heads, -1))  # [heads,d,C]
        proj = self.proj.weight.mT.unflatten(0, (self.heads, -1)) * self.HEAD**-0.5  # [heads,d,C]
        rows = (k.mT @ y).unflatten(1, (self.heads, -1)) @ (v.mT @ proj)  # [N,heads,d,C]
        y = q @ rows.flatten(1, 2) + self.proj.bias  # [N,HW,C]
        return x + self.norm_out(y.to(x.dtype).reshape(n, h, w, c).permute(0, 3, 1, 2))


class Attention(nn.Module):
    """Self-attention over the pixels; text tokens, where given, join the keys and values (GLIDE, 2112.10741).

    y = x + proj(softmax(q k^T / sqrt(d)) v), with q, k, v = qkv(norm(x) + place(coordinates))

    Projections hold q, k, v one after the other, each with its heads side by side; the layouts of published
    checkpoints are permuted into this one when they are read (`glide.checkpoints.openai.convert`).
    """

    def __init__(self, channels: int, heads: int, token_width: int = 0, octaves: int = 0) -> None:
        """octaves: of the `coordinates` that each pixel receives; 0: none."""
        super().__init__()
        assert channels % heads == 0
        self.heads, self.octaves = heads, octaves
        self.norm = GroupNorm(channels)
        self.place = zero_init(nn.Linear(4 * octaves, channels)) if octaves else None
        self.qkv = nn.Linear(channels, 3 * channels)
        self.token_kv = nn.Linear(token_width, 2 * channels) if token_width else None
        self.proj = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context_kv: Tensor | None = None, identity: bool = False) -> Tensor:
        """x [N,C,H,W], context_kv [N,L,2C]: keys and values of tokens, by `token_kv` -> [N,C,H,W].

        identity: each pixel attends to itself alone, the attention map of perturbed-attention guidance (2403.17377).
        """
        n, c, h, w = x.shape
        y = self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c)  # [N,HW,C], free when x is channels_last
        if self.place is not None:
            position = coordinates(h, w, self.octaves, x.device).flatten(0, 1)  # [HW,4*octaves]
            y = y + self.place(position).to(y.dtype)  # [N,HW,C]
        qkv = self.qkv(y)  # [N,HW,3C]
        y = (
            qkv[..., 2 * c :] if identity else dispatch.self_attention(qkv, self.heads, context_kv)
        )  # [N,HW,C]
        return x + self.proj(y).reshape(n, h, w, c).permute(0, 3, 1, 2)


class TokenAttention(nn.Module):
    """Attention of each pixel to the text tokens alone: the same whatever else is in the picture.

    The cross-attention of latent diffusion (2112.10752, section 3.3), which norms each pixel by itself, too. It stands
    alone in a local network, and after the attention between pixels where `UNetConfig.token_attention` is "cross".

    y = x + proj(softmax(q k^T / sqrt(d)) v), with q = q(norm(x)), and k, v of the tokens
    """

    def __init__(self, channels: int, heads: int, token_width: int) -> None:
        super().__init__()
        assert channels % heads == 0
        self.heads = heads
        self.norm = PixelNorm(channels)
        self.q = nn.Linear(channels, channels)
        self.token_kv = nn.Linear(token_width, 2 * channels)
        self.proj = zero_init(nn.Linear(channels, channels))

    def forward(self, x: Tensor, context_kv: Tensor) -> Tensor:
        """x [N,C,H,W], context_kv [N,L,2C]: keys and values of tokens, by `token_kv` -> [N,C,H,W]."""
        n, c, h, w = x.shape
        q = self.q(self.norm(x).permute(0, 2, 3, 1).reshape(n, h * w, c))  # [N,HW,C]
        y = self.proj(dispatch.cross_attention(q, context_kv, self.heads))  # [N,HW,C]
        return x + y.reshape(n, h, w, c).permute(0, 3, 1, 2)


class Downsample(nn.Module):
    """Strided 3x3 convolution: [N,C,H,W] -> [N,C,H/2,W/2]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C,H/2,W/2]."""
        return self.conv(x)


class UnshuffleDownsample(nn.Module):
    """Each 2x2 square becomes one pixel of four times as many channels, then a 1x1 convolution (2208.03641, eq. 1)."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,H/2,W/2]."""
        return self.conv(patches(x, 2, x.dtype).permute(0, 3, 1, 2))


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution: [N,C,H,W] -> [N,O,2H,2W]; O is C unless it is given."""

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels or channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,2H,2W]."""
        return self.conv(upsample_nearest(x))


def upsample_nearest(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,2H,2W]."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample_mean(x: Tensor) -> Tensor:
    """[N,C,H,W] -> [N,C,H/2,W/2], the mean of each 2x2 square."""
    return F.avg_pool2d(x, 2)


class UNetBlock(nn.Module):
    """A residual block (or strided convolution), then attention and upsampling where the block has them.

    attn: attention between pixels, with text tokens beside them, or to tokens alone. cross: attention to tokens that
    follows `attn`, which then has pixels alone.
    """

    kv_slice: slice | None = None
    """Where the block's part of `Conditioning.keys` is, set by `glide.networks.key_cache`."""

    def __init__(
        self,
        res: nn.Module,
        attn: Attention | LinearAttention | TokenAttention | None = None,
        up: nn.Module | None = None,
        cross: TokenAttention | None = None,
    ) -> None:
        super().__init__()
        self.res, self.attn, self.cross, self.up = res, attn, cross, up

    def forward(
        self,
        x: Tensor,
        emb: Tensor,
        tokens: Tensor | None = None,
        context_kv: Tensor | None = None,
        identity: bool = False,
    ) -> Tensor:
        """x [N,C,H,W], emb [N,E], tokens [N,L,D] -> [N,O,H',W'].

        context_kv [N,L,2O]: keys and values of the tokens; None: they are projected here. identity: see `Attention`.
        """
        x = self.res(x, emb) if isinstance(self.res, CONDITIONED) else self.res(x)
        if self.attn is not None:
            context_kv = self.project_tokens(tokens) if context_kv is None else context_kv
            beside = context_kv if self.cross is None else None
            x = self.attn(x, beside, True) if identity else self.attn(x, beside)
            if self.cross is not None:
                x = self.cross(x, context_kv)
        if self.up is not None:
            x = self.up(x, emb) if isinstance(self.up, CONDITIONED) else self.up(x)
        return x

    @property
    def token_kv(self) -> nn.Linear | None:
        """The projection from tokens to keys and values; None without attention to tokens."""
        reader = self.attn if self.cross is None else self.cross
        return None if reader is None else reader.token_kv

    def project_tokens(self, tokens: Tensor | None) -> Tensor | None:
        """Keys and values of the tokens, [N,L,D] -> [N,L,2O]; None without attention to tokens."""
        projection = self.token_kv
        if projection is None:
            return None
        assert tokens is not None
        return projection(tokens.to(projection.weight.dtype))
