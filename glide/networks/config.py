"""Configurations of the networks: their sizes, and the checks that the sizes fit each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from glide.utils.config_check import Entries, need
from glide.utils.memory import check_file_fits
from glide.utils.numbers import Range


@dataclass(frozen=True)
class UNetConfig:
    """Sizes of a U-Net. The fields are ADM's; published configurations are in `glide.networks.model.PRESETS`."""

    image_size: Annotated[int, Range(1, 16384)] = 64
    in_channels: Annotated[int, Range(1, 1024)] = 3
    out_channels: Annotated[int, Range(1, 2048)] = 6
    """3: the prediction alone. 6: also the interpolation of the learned variance (2102.09672)."""
    channels: Annotated[int, Range(2, 65536)] = 192
    channel_mult: Annotated[tuple[float, ...], Range(0, 256), Entries(12)] = (1, 2, 3, 4)
    num_res_blocks: Annotated[int, Range(1, 100)] = 3
    attention: Annotated[tuple[int, ...], Range(0, 65536)] = (2, 4, 8)
    """Downsampling factors, relative to the stem's resolution, of the levels with attention."""
    num_heads: Annotated[int, Range(1, 65536)] = 1
    head_channels: Annotated[int, Range(0, 65536)] = 64
    """Width of an attention head; 0: `num_heads` gives the number of heads instead."""
    num_heads_upsample: Annotated[int, Range(0, 65536)] = 0
    """(head_channels 0) Heads in the decoder; 0: as in the encoder."""
    scale_shift: bool = True
    """Adaptive group norm (the embedding scales and shifts); False: the embedding is added."""
    resblock_updown: bool = True
    """Residual blocks change the resolution; False: strided and nearest-neighbour convolutions."""
    dropout: Annotated[float, Range(0, 1)] = 0.0
    patch_size: Literal[1, 2, 4] = 1
    """Factor by which pixels are unshuffled into channels before the stem."""
    coordinates: Annotated[int, Range(0, 16)] = 0
    """Octaves of x and y whose sines and cosines the stem and attention receive (`glide.networks.layers.coordinates`);
    0: none. Without them a network knows positions from its padded edges alone, and learns what "left" means late."""
    local: bool = False
    """No layer sees the whole picture: norms normalise each pixel by itself, and attention is to the caption's tokens
    alone (there is none without tokens). Trained on crops, such a network draws any size in the same way."""

    self_condition: bool = False
    """The network also receives its own last estimate of x0, or zeros if there is none (2208.04202, section 3.2)."""

    @property
    def stem_channels(self) -> int:
        """Channels of the stem's input, without those of input planes."""
        pixels = self.in_channels * (2 if self.self_condition else 1)
        return pixels * self.patch_size**2 + 4 * self.coordinates

    @property
    def factor(self) -> int:
        """Factor of which heights and widths must be multiples."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)

    def heads(self, channels: int, up: bool = False) -> int:
        """Number of attention heads in a layer of `channels` channels. up: in the decoder."""
        if self.head_channels:
            return channels // self.head_channels
        return self.num_heads_upsample if up and self.num_heads_upsample else self.num_heads

    def check(self) -> None:
        """Raise InputError for sizes that do not fit each other."""
        need(self.channel_mult, "got no channel_mult, expected one for each level")
        last = len(self.channel_mult) - 1
        for level, mult in enumerate(self.channel_mult):
            width = int(mult * self.channels)
            need(
                width >= 1,
                f"channel_mult {mult:g} of {self.channels} channels leaves none, expected 1 or more",
            )
            if self.local or (level != last and 2**level not in self.attention):
                continue
            for heads in {self.heads(width), self.heads(width, up=True)}:
                need(
                    heads and width % heads == 0 and width % (self.head_channels or 1) == 0,
                    f"{width} channels (channel_mult {mult:g}) cannot be split into attention heads, expected a "
                    f"multiple of {self.head_channels or heads} (channels, and num_heads or head_channels)",
                )
        need(
            self.image_size % self.factor == 0,
            f"image_size {self.image_size} is halved {last} times in patches of {self.patch_size}, expected a "
            f"multiple of {self.factor}",
        )
        # the stem's level, whose activations are the largest: its skips, and the working memory of a block
        side = self.image_size // self.patch_size
        width = max(int(self.channel_mult[0] * self.channels), self.stem_channels)
        needed = 4 * side**2 * width * (self.num_res_blocks + 4)
        check_file_fits(needed, f"image_size {self.image_size}", "one picture")
