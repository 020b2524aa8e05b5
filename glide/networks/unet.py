"""One U-Net for every model here: ADM's (2105.05233), with GLIDE's text tokens (2112.10741) in its attention.

Shape letters: N batch, C channels, H W pixels, P planes, L tokens, D token width, E embedding width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import UNetConfig
from glide.networks.layers import (
    Attention,
    Downsample,
    ResBlock,
    TokenAttention,
    Upsample,
    coordinates,
    linear_by_rows,
    norm,
    patches,
    run,
    timestep_embedding,
    zero_init,
)


class Block(nn.Module):
    """A residual block (or strided convolution), then attention, then an up-sampling, each where there is one."""

    def __init__(
        self, res: nn.Module, attn: Attention | TokenAttention | None = None, up: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.res, self.attn, self.up = res, attn, up

    def forward(
        self, x: Tensor, emb: Tensor, tokens: Tensor | None, kv: Tensor | None, identity: bool = False
    ) -> Tensor:
        """x [N,C,H,W], emb [N,E], tokens [N,L,D] and, where they are there already, their keys and values [N,L,2C].

        identity: of the attention between pixels, see `Attention`.
        """
        x = self.res(x, emb) if isinstance(self.res, ResBlock) else self.res(x)
        if self.attn is not None:
            kv = self.keys(tokens) if kv is None else kv
            x = self.attn(x, kv, True) if identity else self.attn(x, kv)
        if self.up is not None:
            x = self.up(x, emb) if isinstance(self.up, ResBlock) else self.up(x)
        return x

    @property
    def token_kv(self) -> nn.Linear | None:
        """From tokens to keys and values; None where there is no attention to them."""
        return None if self.attn is None else self.attn.token_kv

    def keys(self, tokens: Tensor | None) -> Tensor | None:
        """[N,L,D] -> [N,L,2C]."""
        kv = self.token_kv
        if kv is None:
            return None
        assert tokens is not None
        return kv(tokens.to(kv.weight.dtype))


class Encoder(nn.Module):
    """The time embedding, the way down and the middle; alone it is the trunk of a noisy classifier."""

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
            for _ in range(config.num_res_blocks):
                out = int(mult * config.channels)
                self.down.append(Block(self._res(width, out), self._attn(out, token_width, factor)))
                width = out
                self.skip_widths.append(width)
            if level + 1 < len(config.channel_mult):
                self.down.append(
                    Block(self._res(width, width, "down") if config.resblock_updown else Downsample(width))
                )
                self.skip_widths.append(width)
                factor *= 2
        self.factor, self.width = factor, width
        self.middle_in = Block(self._res(width, width), self._attn(width, token_width))
        self.middle_out = Block(self._res(width, width))

    def _res(self, width: int, out: int, resample: str = "") -> ResBlock:
        c = self.config
        return ResBlock(width, out, 4 * c.channels, c.dropout, c.scale_shift, resample, c.local)

    def _attn(
        self, width: int, token_width: int, factor: int | None = None, up: bool = False
    ) -> Attention | TokenAttention | None:
        if factor is not None and factor not in self.config.attention:
            return None
        heads = self.config.heads(width, up)
        if self.config.local:
            return TokenAttention(width, heads, token_width) if token_width else None
        return Attention(width, heads, token_width, self.config.coordinates)

    def embed(self, t: Tensor, cond: Conditioning) -> Tensor:
        """t [N], cond.vector and cond.level [N,E] -> [N,E], through the SiLU that all residual blocks share."""
        dtype = self.stem.weight.dtype
        emb = linear_by_rows(self.time_in, timestep_embedding(t, self.config.channels), dtype)
        emb = linear_by_rows(self.time_out, F.silu(emb), dtype)
        for told in (cond.vector, cond.level):
            emb = emb if told is None else emb + told
        return F.silu(emb).to(dtype)

    def run(
        self,
        block: Block,
        x: Tensor,
        emb: Tensor,
        cond: Conditioning,
        keys: Mapping[Block, Tensor],
        identity: bool = False,
    ) -> Tensor:
        return run(block, x, emb, cond.tokens, keys.get(block), identity, again=self.gradient_checkpointing)

    @cached_property
    def readers(self) -> tuple[tuple[Block, int], ...]:
        """The blocks that attend to tokens, with the width of their keys and values together, 2C."""
        blocks = [block for block in self.modules() if isinstance(block, Block)]
        return tuple((block, kv.out_features) for block in blocks if (kv := block.token_kv) is not None)

    @torch.no_grad()
    def with_keys(self, cond: Conditioning) -> Conditioning:
        """What all steps of a sampling have in common: the keys and values of cond.tokens for every layer."""
        keys = [kv for block, _ in self.readers if (kv := block.keys(cond.tokens)) is not None]
        return replace(cond, keys=torch.cat(keys, dim=-1)) if keys else cond

    def keys(self, cond: Conditioning) -> dict[Block, Tensor]:
        """[N,L,2C] for each block that attends to tokens, of cond.keys; without these each block makes its own."""
        if cond.keys is None:
            return {}
        parts = cond.keys.split([width for _, width in self.readers], dim=-1)
        return {block: part for (block, _), part in zip(self.readers, parts, strict=True)}

    def encode(
        self, x: Tensor, emb: Tensor, cond: Conditioning, identity: Collection[str] = ()
    ) -> Iterator[Tensor]:
        """Yields the activation after the stem and after every block, the middle last. identity: as `UNet.forward`."""
        keys = self.keys(cond)
        if self.config.self_condition:
            x = torch.cat([x, torch.zeros_like(x) if cond.estimate is None else cond.estimate.to(x)], dim=1)
        if cond.planes is not None:
            x = torch.cat([x, cond.planes], dim=1)
        cells = patches(x, self.config.patch_size, self.stem.weight.dtype)  # [N,H,W,C]
        if self.config.coordinates:
            height, width = cells.shape[1:3]
            places = coordinates(height, width, self.config.coordinates, x.device)  # [H,W,4K]
            cells = torch.cat([cells, places.to(cells.dtype).expand(len(cells), -1, -1, -1)], dim=-1)
        h = self.stem(cells.permute(0, 3, 1, 2))
        yield h
        for i, block in enumerate(self.down):
            assert isinstance(block, Block)
            h = self.run(block, h, emb, cond, keys, f"down.{i}" in identity)
            yield h
        h = self.run(self.middle_in, h, emb, cond, keys, "middle" in identity)
        yield self.run(self.middle_out, h, emb, cond, keys)


@dataclass
class Deep:
    """What comes up from all levels below the first: a U-Net that finds none fills it in, else it takes it as it is."""

    h: Tensor | None = None  # [N,C,H,W]

    @property
    def rows(self) -> int:
        return 0 if self.h is None else len(self.h)


class UNet(Encoder):
    """The encoder and the way back up, which sees the skips."""

    def __init__(self, config: UNetConfig, planes: int = 0, token_width: int = 0) -> None:
        super().__init__(config, planes, token_width)
        self.up = nn.ModuleList()
        skips = list(self.skip_widths)
        width, factor = self.width, self.factor
        for level, mult in reversed(list(enumerate(config.channel_mult))):
            for i in range(config.num_res_blocks + 1):
                out = int(mult * config.channels)
                res = self._res(width + skips.pop(), out)
                up: nn.Module | None = None
                if level and i == config.num_res_blocks:
                    up = self._res(out, out, "up") if config.resblock_updown else Upsample(out)
                self.up.append(Block(res, self._attn(out, token_width, factor, up=True), up))
                width = out
            factor //= 2
        self.norm = norm(width, config.local)
        self.head = zero_init(nn.Conv2d(width, config.out_channels * config.patch_size**2, 3, padding=1))

    def attention_layers(self) -> dict[str, Attention]:
        """Attention between pixels by name, in the order of the data: down.0, ..., middle, up.0, ..."""
        blocks = [
            *((f"down.{i}", block) for i, block in enumerate(self.down)),
            ("middle", self.middle_in),
            *((f"up.{i}", block) for i, block in enumerate(self.up)),
        ]
        return {
            name: block.attn
            for name, block in blocks
            if isinstance(block, Block) and isinstance(block.attn, Attention)
        }

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        cond: Conditioning,
        deep: Deep | None = None,
        identity: Collection[str] = (),
    ) -> Tensor:
        """x [N,C,H,W], t [N] training timesteps, cond -> [N,out_channels,H,W].

        deep: to keep what the deeper levels say, or, where it is kept, to compute the first level alone. identity:
        names of `attention_layers` whose map is the identity in this call.
        """
        emb, keys = self.embed(t, cond), self.keys(cond)
        activations = self.encode(x, emb, cond, identity)
        first = self.config.num_res_blocks + 1  # skips of the first level, and blocks up that see them
        skips = list(islice(activations, first))
        ups = [(block, f"up.{i}" in identity) for i, block in enumerate(self.up)]
        deep = deep or Deep()
        if deep.h is None:
            deeper = list(activations)
            deep.h = deeper.pop()
            for block, alone in ups[:-first]:
                assert isinstance(block, Block)
                deep.h = self.run(block, torch.cat([deep.h, deeper.pop()], dim=1), emb, cond, keys, alone)
        h = deep.h
        for block, alone in ups[-first:]:
            assert isinstance(block, Block)
            h = self.run(block, torch.cat([h, skips.pop()], dim=1), emb, cond, keys, alone)
        h = self.norm(h.to(self.head.weight.dtype), silu=True)
        return F.pixel_shuffle(self.head(h), self.config.patch_size)
