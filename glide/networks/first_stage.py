"""The space that a diffusion model draws in: pixels, or the latents of a frozen autoencoder (2112.10752).

Shape letters: N batch, C channels, H W pixels, c latent channels, h w latents.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.networks.config import FirstStageConfig
from glide.utils.errors import InputError
from glide.utils.fill import filled_in


class AutoencoderLike(Protocol):
    """An autoencoder as a first stage needs it: this project's, or another library's behind the same methods."""

    @property
    def factor(self) -> int: ...

    @property
    def latent_channels(self) -> int: ...

    @property
    def picture_channels(self) -> int: ...

    def encode(self, x: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1] -> normalised latents [N,c,h,w], float32, without a gradient."""

    def decode(self, latents: Tensor) -> Tensor:
        """Normalised latents [N,c,h,w] -> pictures [N,C,H,W], float32, with a gradient."""


class FirstStage:
    """The first stage of a model that draws pixels: everything stays as it is."""

    factor = 1
    config: FirstStageConfig | None = None
    """Of the autoencoder; None where there is none."""
    bound: float | None = 1.0
    """Largest absolute value of what a model draws; None: there is none."""
    shows_pixels = False
    """True: the network receives a masked picture itself (`glide.networks.masked_latents`), so no latent is pinned."""

    def encode(self, x: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1] -> what the model draws, [N,c,h,w]."""
        return x

    def encode_in_parts(self, x: Tensor, rows: int, device: torch.device) -> Tensor:
        """`encode` by calls of so many pictures on a device; the result is where x is."""
        return x

    def decode(self, z: Tensor) -> Tensor:
        """From what the model draws, [N,c,h,w], to pictures [N,C,H,W], nominally in [-1, 1]."""
        return z

    def encode_known(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures [N,C,H,W] and where they are known, [N,1,H,W] -> the same as the model draws, [N,c,h,w], [N,1,h,w].

        Nothing of an unknown pixel reaches the result.
        """
        return image, mask

    def clamp(self, x0: Tensor) -> Tensor:
        """x0 [N,c,h,w] within the bound."""
        return x0 if self.bound is None else x0.clamp(-self.bound, self.bound)


PIXELS = FirstStage()


class LatentStage(FirstStage):
    """A frozen autoencoder. It is no part of a model's weights, optimizer, averages or checkpoints."""

    bound = None

    def __init__(self, autoencoder: AutoencoderLike, config: FirstStageConfig) -> None:
        self.autoencoder: AutoencoderLike = autoencoder
        self.config: FirstStageConfig = config
        self.factor = config.factor

    def __deepcopy__(self, memo: Any) -> LatentStage:
        return self  # frozen: copies of a model share it

    def encode(self, x: Tensor) -> Tensor:
        self._move(x.device)
        with torch.autocast(x.device.type, enabled=False):
            return self.autoencoder.encode(x.float())

    def encode_in_parts(self, x: Tensor, rows: int, device: torch.device) -> Tensor:
        return torch.cat([self.encode(part.to(device)).to(x.device) for part in x.split(rows)])

    def decode(self, z: Tensor) -> Tensor:
        self._move(z.device)
        with torch.autocast(z.device.type, enabled=False):
            return self.autoencoder.decode(z.float())

    def encode_known(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Unknown pixels are filled with what lies around them, so that latents beside them stay as they were; a
        latent counts as known where all of its own pixels are."""
        known = 1.0 - F.max_pool2d(1.0 - mask, self.factor)
        return self.encode(filled_in(image, mask)), known

    def _move(self, device: torch.device) -> None:
        if isinstance(self.autoencoder, nn.Module) and next(self.autoencoder.parameters()).device != device:
            self.autoencoder.to(device)


class MissingStage(FirstStage):
    """In place of an autoencoder that was not loaded."""

    bound = None

    def __init__(self, config: FirstStageConfig) -> None:
        self.config = config
        self.factor = config.factor

    def encode(self, x: Tensor) -> Tensor:
        raise self._missing()

    def decode(self, z: Tensor) -> Tensor:
        raise self._missing()

    def encode_in_parts(self, x: Tensor, rows: int, device: torch.device) -> Tensor:
        raise self._missing()

    def encode_known(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        raise self._missing()

    def _missing(self) -> InputError:
        return InputError(
            "got a model that draws latents without its autoencoder, expected both: load it by load_model or "
            "Pipeline.from_pretrained"
        )


def stage_of(config: FirstStageConfig | None) -> FirstStage:
    """The first stage of a network that was just built: pixels, or an autoencoder that is still to be loaded."""
    return PIXELS if config is None else MissingStage(config)
