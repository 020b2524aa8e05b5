"""One U-Net for all diffusion models here: ADM's (2105.05233), with GLIDE's text tokens (2112.10741) in its attention.

Shape letters: N batch, C channels, H W pixels, P planes, L tokens, D token width, E embedding width.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.blocks import (
    Attention,
    Downsample,
    LinearAttention,
    ResBlock,
    StandardizedResBlock,
    TokenAttention,
    UNetBlock,
    UnshuffleDownsample,
    Upsample,
)
from glide.networks.config import UNetConfig
from glide.networks.gradient_checkpointing import checkpointed
from glide.networks.inner_head import tapped_block
from glide.networks.key_cache import assign_slices, cached_kv
from glide.networks.layers import coordinates, linear_by_rows, norm, patches, timestep_embedding, zero_init

OnBlock = Callable[[str, Tensor], Tensor]
"""From a block's name (`UNet.block_names`) and output [N,C,H,W] to what is taken in its place."""


def as_it_is(name: str, h: Tensor) -> Tensor:
    return h


class Encoder(nn.Module):
    """The encoder of a U-Net: time embedding, downward path and middle. Alone it is the trunk of a noisy classifier."""

    def __init__(self, config: UNetConfig, planes: int = 0, token_width: int = 0) -> None:
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        emb_width = 4 * config.channels
        self.time_in = nn.Linear(config.channels, emb_width)
        self.time_out = nn.Linear(emb_width, emb_width)

        width = int(config.channel_mult[0] * config.channels)
        self.stem = nn.Conv2d(config.stem_channels + planes * config.patch_size**2, width, 3, padding=1)
        self.down = nn.ModuleList()
        self.skip_widths = [width]
        factor = 1
        for level, mult in enumerate(config.channel_mult):
            for i in range(config.num_res_blocks):
                out = int(mult * config.channels)
                last = i + 1 == config.num_res_blocks
                self.down.append(self._block(self._res(width, out), out, token_width, factor, last=last))
                width = out
                self.skip_widths.append(width)
            if level + 1 < len(config.channel_mult):
                down, width = self._down(width, level)
                self.down.append(UNetBlock(down))
                self.skip_widths.append(width)
                factor *= 2
        self.factor, self.width = factor, width
        self.middle_in = self._block(self._res(width, width), width, token_width)
        self.middle_out = UNetBlock(self._res(width, width))

    def _down(self, width: int, level: int) -> tuple[nn.Module, int]:
        """The change of resolution after a level, and the width after it."""
        c = self.config
        if c.unshuffle:
            next_width = int(c.channel_mult[level + 1] * c.channels)
            return UnshuffleDownsample(width, next_width), next_width
        return (self._res(width, width, "down") if c.resblock_updown else Downsample(width)), width

    def _res(self, width: int, out: int, resample: str = "") -> ResBlock | StandardizedResBlock:
        c = self.config
        if c.blocks == "standardized":
            return StandardizedResBlock(width, out, 4 * c.channels, c.dropout)
        return ResBlock(width, out, 4 * c.channels, c.dropout, c.scale_shift, resample, c.local)

    def _block(
        self,
        res: ResBlock | StandardizedResBlock,
        width: int,
        token_width: int,
        factor: int | None = None,
        up: nn.Module | None = None,
        decoder: bool = False,
        last: bool = False,
    ) -> UNetBlock:
        """A block with the attention that the configuration gives it.

        factor: of the level; None: the middle. last: of the level's blocks.
        """
        config = self.config
        if factor is not None and factor not in config.attention:
            return UNetBlock(res, up=up)
        heads = config.heads(width, decoder)
        if config.linear_attention and factor is not None:
            cross = TokenAttention(width, heads, token_width) if last and token_width else None
            return UNetBlock(res, LinearAttention(width, heads) if last else None, up, cross)
        if config.local:
            return UNetBlock(res, TokenAttention(width, heads, token_width) if token_width else None, up)
        if token_width and config.token_attention == "cross":
            pixels = Attention(width, heads, 0, config.coordinates)
            return UNetBlock(res, pixels, up, TokenAttention(width, heads, token_width))
        return UNetBlock(res, Attention(width, heads, token_width, config.coordinates), up)

    def embed(self, t: Tensor, cond: Conditioning) -> Tensor:
        """silu(W2 silu(W1 features(t)) + vector + level): t [N], cond.vector and cond.level [N,E] -> [N,E].

        The SiLU is shared by all residual blocks.
        """
        dtype = self.stem.weight.dtype
        emb = linear_by_rows(self.time_in, timestep_embedding(t, self.config.channels), dtype)  # [N,E]
        emb = linear_by_rows(self.time_out, F.silu(emb), dtype)
        for part in (cond.vector, cond.level):
            emb = emb if part is None else emb + part
        return F.silu(emb).to(dtype)

    def inputs(self, x: Tensor, cond: Conditioning) -> Tensor:
        """The stem's input: patches of x [N,C,H,W], cond.estimate [N,C,H,W] and cond.planes [N,P,H,W], coordinates."""
        if self.config.self_condition:
            x = torch.cat([x, torch.zeros_like(x) if cond.estimate is None else cond.estimate.to(x)], dim=1)
        if cond.planes is not None:
            x = torch.cat([x, cond.planes], dim=1)
        cells = patches(x, self.config.patch_size, self.stem.weight.dtype)  # [N,h,w,c]
        if self.config.coordinates:
            h, w = cells.shape[1:3]
            positions = coordinates(h, w, self.config.coordinates, x.device).to(cells.dtype)  # [h,w,4K]
            cells = torch.cat([cells, positions.expand(len(cells), -1, -1, -1)], dim=-1)  # [N,h,w,c+4K]
        return cells.permute(0, 3, 1, 2)

    def encode(
        self,
        x: Tensor,
        emb: Tensor,
        cond: Conditioning,
        identity: Collection[str] = (),
        on_block: OnBlock = as_it_is,
    ) -> Iterator[Tensor]:
        """Yield the activation [N,C',H',W'] after the stem and after every block, the middle last.

        x [N,C,H,W], emb [N,E]. identity, on_block: as `UNet.forward`.
        """
        h = self.stem(self.inputs(x, cond))
        yield h
        for i, block in enumerate(self.down):
            h = on_block(f"down.{i}", self.run(block, h, emb, cond, f"down.{i}" in identity))
            yield h
        h = self.run(self.middle_in, h, emb, cond, "middle" in identity)
        yield on_block("middle", self.run(self.middle_out, h, emb, cond))

    def run(
        self, block: nn.Module, h: Tensor, emb: Tensor, cond: Conditioning, identity: bool = False
    ) -> Tensor:
        """One block: h [N,C,H,W], emb [N,E] -> [N,O,H',W']. identity: as `Attention`."""
        kv = cached_kv(block, cond)  # [N,L,2O]
        return checkpointed(block, h, emb, cond.tokens, kv, identity, enabled=self.gradient_checkpointing)


class UNet(Encoder):
    """The encoder, and the decoder with its skip connections; with `UNetConfig.inner_head` a second output."""

    def __init__(self, config: UNetConfig, planes: int = 0, token_width: int = 0) -> None:
        super().__init__(config, planes, token_width)
        self.up = nn.ModuleList()
        skips, up_widths = list(self.skip_widths), []
        width, factor = self.width, self.factor
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                out = int(mult * config.channels)
                res = self._res(width + skips.pop(), out)
                up: nn.Module | None = None
                width, last = out, i == config.num_res_blocks
                if level and last:
                    up, width = self._up(out, level)
                self.up.append(self._block(res, out, token_width, factor, up, decoder=True, last=last))
                up_widths.append(width)
            factor //= 2
        self.norm = norm(width, config.local)
        self.head = zero_init(nn.Conv2d(width, config.out_channels * config.patch_size**2, 3, padding=1))
        if config.inner_head:
            self.tapped = tapped_block(config.inner_head, len(config.channel_mult), config.num_res_blocks)
            self.inner_norm = norm(up_widths[self.tapped], config.local)
            area = self.inner_patch**2
            self.inner_head = zero_init(
                nn.Conv2d(up_widths[self.tapped], config.in_channels * area, 3, padding=1)
            )
        assign_slices(self)

    @property
    def inner_patch(self) -> int:
        """Side in pixels of the squares that the inner head draws."""
        return self.config.patch_size * self.config.inner_head // 2

    def _up(self, width: int, level: int) -> tuple[nn.Module, int]:
        """The change of resolution after a level of the decoder, and the width after it."""
        c = self.config
        if c.unshuffle:
            next_width = int(c.channel_mult[level - 1] * c.channels)
            return Upsample(width, next_width), next_width
        return (self._res(width, width, "up") if c.resblock_updown else Upsample(width)), width

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        identity: Collection[str] = (),
        on_block: OnBlock = as_it_is,
        inner: bool = False,
    ) -> Tensor:
        """x [N,C,H,W], t [N] training timesteps, cond -> [N,out_channels,H,W].

        identity: names of `attention_layers` whose attention map is the identity in this call. on_block: receives
        each block's output, and returns what the next ones receive. inner: the prediction of the inner head [N,C,H,W]
        follows in further channels, so that one call gives both; the first ones are the same bit for bit.
        """
        emb = self.embed(t, cond)  # [N,E]
        *skips, h = self.encode(x, emb, cond, identity, on_block)
        if not inner:
            return self.output(self.decode(h, skips, emb, cond, identity, on_block=on_block))
        cut = self.tapped + 1
        middle = self.decode(h, skips, emb, cond, identity, slice(None, cut), on_block)  # [N,C',h,w]
        h = self.decode(middle, skips, emb, cond, identity, slice(cut, None), on_block)  # [N,C",H,W]
        return torch.cat([self.output(h), self.inner_output(middle)], dim=1)

    def decode(
        self,
        h: Tensor,
        skips: list[Tensor],
        emb: Tensor,
        cond: Conditioning,
        identity: Collection[str] = (),
        blocks: slice = slice(None),
        on_block: OnBlock = as_it_is,
    ) -> Tensor:
        """The decoder, or some of its blocks: h [N,C',H',W'], emb [N,E] -> [N,C,H,W].

        skips: activations of the encoder [N,C",H",W"], consumed from the last to the first.
        """
        for i in range(len(self.up))[blocks]:
            h = self.run(self.up[i], torch.cat([h, skips.pop()], dim=1), emb, cond, f"up.{i}" in identity)
            h = on_block(f"up.{i}", h)
        return h

    def output(self, h: Tensor) -> Tensor:
        """The last layer: [N,C,h,w] -> [N,out_channels,H,W]."""
        h = self.norm(h.to(self.head.weight.dtype), silu=True)
        return F.pixel_shuffle(self.head(h), self.config.patch_size)

    def inner_output(self, h: Tensor) -> Tensor:
        """The inner head's prediction: output of the block that it reads [N,C',h,w] -> [N,C,H,W]."""
        h = self.inner_norm(h.to(self.inner_head.weight.dtype), silu=True)
        return F.pixel_shuffle(self.inner_head(h), self.inner_patch)

    def block_names(self) -> tuple[str, ...]:
        """Names of all blocks, in the order in which they run: down.0, ..., middle, up.0, ..."""
        down, up = (f"down.{i}" for i in range(len(self.down))), (f"up.{i}" for i in range(len(self.up)))
        return (*down, "middle", *up)

    def attention_layers(self) -> dict[str, Attention]:
        """Attention layers between pixels by name, in the order in which they run: down.0, ..., middle, up.0, ..."""
        blocks = [
            *((f"down.{i}", block) for i, block in enumerate(self.down)),
            ("middle", self.middle_in),
            *((f"up.{i}", block) for i, block in enumerate(self.up)),
        ]
        return {
            name: block.attn
            for name, block in blocks
            if isinstance(block, UNetBlock) and isinstance(block.attn, Attention)
        }
