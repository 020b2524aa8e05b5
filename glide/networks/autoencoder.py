"""The first stage of latent diffusion (2112.10752): an autoencoder from pictures to smaller latents, and back.

It is convolutional throughout, and its norms take each pixel by itself. So what a latent depends on ends at a known
distance, and a large picture is encoded and decoded in tiles with the same result.

Shape letters: N batch, C channels, H W pixels, c latent channels, h w latents.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.autoencoder_config import AutoencoderConfig
from glide.networks.blocks import Downsample, Upsample
from glide.networks.layers import PixelNorm, patches, zero_init
from glide.networks.tiles import in_exact_tiles
from glide.utils.errors import InputError

LOG_VARIANCE = (-30.0, 20.0)
"""Range of a latent's log variance, as in latent diffusion's release."""


class ConvBlock(nn.Module):
    """A residual block without conditions: x + conv(silu(norm(conv(silu(norm(x))))))."""

    def __init__(self, channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm_in = PixelNorm(channels)
        self.conv_in = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.norm_out = PixelNorm(out_channels)
        self.conv_out = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.skip = nn.Identity() if channels == out_channels else nn.Conv2d(channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,H,W]."""
        h = self.conv_in(self.norm_in(x, silu=True))
        return self.skip(x) + self.conv_out(self.norm_out(h, silu=True))


class AutoencoderSizes(nn.Module):
    """The sizes of an autoencoder, from the fields of its configuration."""

    config: Any

    @property
    def factor(self) -> int:
        """Factor by which a latent is smaller than its picture."""
        return int(self.config.factor)

    @property
    def picture_channels(self) -> int:
        """Channels of a picture."""
        return int(self.config.in_channels)

    @property
    def latent_channels(self) -> int:
        """Channels of a latent."""
        return int(self.config.latent_channels)


class Autoencoder(AutoencoderSizes):
    """An encoder and a decoder. `encode` gives normalised latents, and `decode` takes them."""

    config: AutoencoderConfig

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        widths = [int(mult * config.channels) for mult in config.channel_mult]
        pixels = config.in_channels * config.patch_size**2
        outputs = config.latent_channels * (2 if config.kl else 1)
        self.stem = nn.Conv2d(pixels, widths[0], 3, padding=1)
        self.encoder = nn.Sequential(
            *_levels(widths, config.num_res_blocks, Downsample),
            _Head(widths[-1], outputs),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(config.latent_channels, widths[-1], 3, padding=1),
            *_levels(widths[::-1], config.num_res_blocks, Upsample),
            _Head(widths[0], pixels),
        )

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Pictures [N,C,H,W] in [-1, 1] -> mean and log variance of their latents [N,c,h,w], as they were trained.

        The log variance is None for an autoencoder without one. InputError for another number of channels.
        """
        c = self.config
        if x.shape[1] != c.in_channels:
            raise InputError(
                f"got pictures of {x.shape[1]} channels for an autoencoder of {c.in_channels}, expected as many: "
                "give one that was trained on such pictures"
            )
        cells = patches(x, c.patch_size, self.stem.weight.dtype).permute(0, 3, 1, 2)  # [N,C*p*p,H/p,W/p]
        out = self.encoder(self.stem(cells))
        if not c.kl:
            return out, None
        mean, log_variance = out.chunk(2, dim=1)
        return mean, log_variance.clamp(*LOG_VARIANCE)

    def reconstruct(self, latents: Tensor) -> Tensor:
        """Latents [N,c,h,w] as they were trained -> pictures [N,C,H,W], nominally in [-1, 1]."""
        return F.pixel_shuffle(self.decoder(latents), self.config.patch_size)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1] -> normalised latents [N,c,h,w], float32: the mean of each.

        Height and width that are no multiple of the factor are padded with the picture's last row and column. Each
        picture is encoded by itself, a large one in tiles. InputError for another number of channels.
        """
        x = padded(x, self.factor)
        raw = [self._tiled(lambda part: self.moments(part)[0], one[None], 1 / self.factor) for one in x]
        shift, scale = self._normalisation(x.device)
        return (torch.cat(raw).float() - shift) / scale

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [N,c,h,w] -> pictures [N,C,H,W] float32, nominally in [-1, 1].

        Each is decoded by itself, a large one in tiles. A gradient passes. InputError for another number of channels.
        """
        if latents.shape[1] != self.latent_channels:
            raise InputError(
                f"got latents of {latents.shape[1]} channels for an autoencoder of {self.latent_channels}, expected "
                "as many: give the autoencoder that the model was trained with"
            )
        shift, scale = self._normalisation(latents.device)
        raw = latents * scale + shift
        return torch.cat([self._tiled(self.reconstruct, one[None], self.factor).float() for one in raw])

    def _tiled(self, network: Callable[[Tensor], Tensor], x: Tensor, scale: float) -> Tensor:
        """network(x) [1,...], which makes x larger or smaller by `scale`; in tiles where x is large."""
        latents = -(-self.config.reach // self.factor)  # as far as the network reaches
        return in_exact_tiles(network, x, scale, latents * self.factor if scale < 1 else latents)

    def _normalisation(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the channels, [c,1,1] each."""
        c = self.config.latent_channels
        mean, std = self.config.mean or (0.0,) * c, self.config.std or (1.0,) * c
        shift, scale = (torch.tensor(values, device=device)[:, None, None] for values in (mean, std))
        return shift, scale


class _Head(nn.Module):
    """Norm, SiLU and a 3x3 convolution."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,O,H,W]."""
        return self.conv(self.norm(x, silu=True))


def _levels(widths: list[int], blocks: int, resample: type[Downsample] | type[Upsample]) -> list[nn.Module]:
    """Residual blocks at each width, with a change of resolution before each level but the first."""
    layers: list[nn.Module] = []
    width = widths[0]
    for level, out in enumerate(widths):
        if level:
            layers.append(resample(width))
        for _ in range(blocks):
            layers.append(ConvBlock(width, out))
            width = out
        if width != out:  # no blocks
            layers.append(nn.Conv2d(width, out, 1))
            width = out
    return layers


def padded(x: Tensor, factor: int) -> Tensor:
    """[N,C,H,W] with its last row and column repeated up to the next multiple of `factor`."""
    down, across = -x.shape[-2] % factor, -x.shape[-1] % factor
    return F.pad(x, (0, across, 0, down), mode="replicate") if down or across else x
