"""Frozen image encoders: clean pictures to one vector each, and to the feature maps on the way.

Shape letters: N pictures, C channels, H W pixels, S size of the encoder's pictures, E embedding width, L tokens,
D width, h w places of a feature map.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.utils.errors import InputError

LEVELS = 4
"""Feature maps that `features` gives of a transformer, from layers at even distances, the last one included."""


class PretrainedImages(ABC):
    """An image encoder that is not trained. It is no part of a model's weights, averages or checkpoints."""

    commit: str | None = None
    """Of the hub."""

    def __init__(
        self,
        network: nn.Module,
        *,
        width: int,
        size: int,
        fingerprint: str,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ) -> None:
        """size: of its pictures in pixels, wide and high. mean, std: of its pictures' channels, from 0 to 1; 0.5 leaves
        them in [-1, 1]. fingerprint: of all that its embeddings depend on."""
        self.network = network.eval().requires_grad_(False)
        self.width, self.size, self.fingerprint = width, size, fingerprint
        self.mean, self.std = tuple(mean), tuple(std)

    def __deepcopy__(self, memo: Any) -> PretrainedImages:
        return self  # frozen: copies of a model share it

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1], of any size -> embeddings [N,E], float32.

        InputError for pictures of another number of channels.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._embed(self._prepared(images)).float()

    def features(self, images: Tensor) -> list[Tensor]:
        """Pictures [N,C,H,W] in [-1, 1] -> intermediate activations [N,D,h,w], with a gradient to the pictures.

        InputError for an encoder without feature maps, or pictures of another number of channels.
        """
        with torch.autocast(images.device.type, enabled=False):
            return self._maps(self._prepared(images))

    @abstractmethod
    def _embed(self, x: Tensor) -> Tensor:
        """[N,C,S,S], normalised -> [N,E]."""

    @abstractmethod
    def _maps(self, x: Tensor) -> list[Tensor]:
        """[N,C,S,S], normalised -> activations [N,D,h,w]. InputError where there are none."""

    def _prepared(self, images: Tensor) -> Tensor:
        """Pictures [N,C,H,W] in [-1, 1] at the encoder's size, mean and deviation, where its network is: [N,C,S,S]."""
        if images.shape[1] != len(self.mean):
            raise InputError(
                f"got pictures of {images.shape[1]} channels for an image encoder of {len(self.mean)}, expected the "
                "same: give an encoder of these pictures"
            )
        if next(self.network.parameters()).device != images.device:
            self.network.to(images.device)
        x = images.float()
        if x.shape[-2:] != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bicubic", antialias=True)
        # one factor and one sum, which change nothing at all for a mean and deviation of 0.5
        factor = torch.tensor([0.5 / std for std in self.std]).to(x)
        shift = torch.tensor([(0.5 - mean) / std for mean, std in zip(self.mean, self.std, strict=True)]).to(
            x
        )
        return x * factor[:, None, None] + shift[:, None, None]


class TransformersImages(PretrainedImages):
    """A vision transformer of transformers: CLIP's image tower with its projection, or DINOv2.

    The embedding is CLIP's `image_embeds`, which a caption's are compared with, or DINOv2's class token.
    """

    def _embed(self, x: Tensor) -> Tensor:
        output: Any = self.network(pixel_values=x)
        found: Tensor = output.image_embeds if hasattr(output, "image_embeds") else output.pooler_output
        return found

    def _maps(self, x: Tensor) -> list[Tensor]:
        output: Any = self.network(pixel_values=x, output_hidden_states=True)
        states: tuple[Tensor, ...] = output.hidden_states[1:]  # [N,L,D] after each layer
        config: Any = self.network.config
        side = self.size // config.patch_size
        count = min(LEVELS, len(states))
        chosen = [states[(i + 1) * len(states) // count - 1] for i in range(count)]
        return [state[:, -(side**2) :].mT.unflatten(2, (side, side)) for state in chosen]
