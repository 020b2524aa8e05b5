"""The request for one picture: its seed, caption and class, and the pixels of it that are known.

Shape letters: H W pixels, h w pixels of a low-resolution picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from glide.utils.numbers import whole
from glide.utils.ranges import MAX_SEED


@dataclass(frozen=True, eq=False)
class KnownPixels:
    """Known pixels of a picture, all in [-1, 1] but the mask and the conditions. None is not given."""

    low_res: Tensor | None = None  # [3,h,w]  what an upsampler enlarges
    noise: float = 0.0  # its noise, for a model that receives the level: a standard deviation, 0 to below 1
    image: Tensor | None = None  # [3,H,W]  what stays of it where `mask` is 1
    mask: Tensor | None = None  # [1,H,W]  1 where a pixel is known, 0 where it is to be painted
    visible: bool = True  # True: a model with inpainting planes receives `image` and `mask`
    shown: tuple[Tensor, Tensor] | None = None
    """[3,H,W], [1,H,W]  the same in pixels, for a network of latents that receives them itself. Nothing is pinned."""
    start: Tensor | None = None  # [3,H,W]  what the run begins with, noised as far as its strength says
    latent: Tensor | None = None  # [3,H,W]  the same, noised already
    conditions: Mapping[str, Tensor] = field(default_factory=dict)
    """Pictures that the model is conditioned on, bytes [c,H,W] by their keys (`glide.networks.picture_conditions`)."""
    embedding: Tensor | None = None  # [E]  of a picture, by the image encoder of a model that receives it

    @property
    def has_conditions(self) -> bool:
        """True where there are pictures that the model is conditioned on, or the embedding of one."""
        return bool(self.conditions) or self.embedding is not None

    def without_conditions(self) -> KnownPixels:
        """A copy without them."""
        return replace(self, conditions={}, embedding=None)


NO_PIXELS = KnownPixels()


@dataclass(frozen=True)
class ImageRequest:
    """The request for one picture of a run: its noise and its condition."""

    seed: int
    caption: str = ""
    """"" is the null caption. A model without text ignores it; a guidance may read it."""
    label: int | None = None
    """None is the null class. A model without classes ignores it; a guidance may read it."""
    given: KnownPixels = NO_PIXELS
    """Pixels that are known. What an inpainting model's picture is not given, it paints."""

    def __post_init__(self) -> None:
        """Numbers of numpy as Python's own, as recipes need them. InputError for what is no seed or class number."""
        object.__setattr__(self, "seed", whole(self.seed, "the seed", 0, MAX_SEED))
        if self.label is not None:
            object.__setattr__(self, "label", whole(self.label, "the class"))
