"""Sizes of the image transformer of a CLIP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

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
    channels: Annotated[int, Range(1, 1024)] = 3
    """Of a picture, or of latents."""

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
