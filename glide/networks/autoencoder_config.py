"""The configuration of an autoencoder, and known ones by name. Imports no torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from glide.utils.config_check import Entries, config_from_dict, need
from glide.utils.numbers import Range


@dataclass(frozen=True)
class AutoencoderConfig:
    """Everything needed to rebuild an autoencoder: from pictures to latents, and back."""

    in_channels: Annotated[int, Range(1, 1024)] = 3
    latent_channels: Annotated[int, Range(1, 1024)] = 4
    patch_size: Literal[1, 2, 4, 8, 16] = 4
    """Factor by which pixels are unshuffled into channels before the stem. A stem at full resolution costs three times
    as much a step, and was no better."""
    channels: Annotated[int, Range(2, 65536)] = 64
    channel_mult: Annotated[tuple[float, ...], Range(0, 256), Entries(8)] = (1,)
    """Width of each level; each level after the first halves height and width once more."""
    num_res_blocks: Annotated[int, Range(0, 100)] = 3
    """Residual blocks of a level, in the encoder and again in the decoder."""
    kl: bool = False
    """A Gaussian for each latent, learned with a KL term (1312.6114); False: a latent is a number."""
    mean: Annotated[tuple[float, ...], Entries(1024)] = ()
    std: Annotated[tuple[float, ...], Range(1e-12, 1e12), Entries(1024)] = ()
    """Mean and standard deviation of each channel over the data. Latents are normalised by them; empty: not at all."""

    @property
    def factor(self) -> int:
        """Factor by which a latent is smaller than its picture."""
        return self.patch_size * 2 ** (len(self.channel_mult) - 1)

    @property
    def reach(self) -> int:
        """Pixels by which the farthest pixel that a latent depends on lies beyond the latent's own; the same the
        other way, from a pixel to latents."""
        pixels, size = 0, int(self.patch_size)
        for level in range(len(self.channel_mult)):
            # two convolutions a block, one at the ends of the level: stem, latent, or a change of resolution
            pixels += size * (2 * self.num_res_blocks + 2)
            size *= 2 if level + 1 < len(self.channel_mult) else 1
        return pixels

    def check(self) -> None:
        """InputError for sizes that do not fit each other."""
        need(self.channel_mult, "got no channel_mult, expected one for each level")
        for mult in self.channel_mult:
            need(
                int(mult * self.channels) >= 1,
                f"channel_mult {mult:g} of {self.channels} channels leaves none, expected 1 or more",
            )
        need(
            len(self.mean) == len(self.std) and len(self.mean) in (0, self.latent_channels),
            f"got {len(self.mean)} means and {len(self.std)} deviations for {self.latent_channels} latent channels, "
            "expected one of each for each channel, or none",
        )

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AutoencoderConfig:
        """The inverse of `to_dict`, also after a trip through JSON. InputError on unknown fields."""
        return config_from_dict(cls, values, "autoencoder")


AUTOENCODERS: dict[str, AutoencoderConfig] = {
    "tiny": AutoencoderConfig(channels=16, num_res_blocks=1),
    "f4": AutoencoderConfig(),
    "f4-wide": AutoencoderConfig(channels=96, num_res_blocks=4),
    "f8": AutoencoderConfig(patch_size=4, channels=64, channel_mult=(1, 2), latent_channels=8),
}
"""Known configurations by name: "f4" makes latents four times smaller, "f8" eight times."""
