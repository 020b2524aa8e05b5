"""The interface of one kind of input of a model besides x_t (`glide.networks.input_planes` has the kinds).

Shape letters: N batch, C channels, H W pixels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig
from glide.networks.image_request import KnownPixels

Inputs = Mapping[str, Tensor]
"""Inputs of `Model.condition` by name, [N,...] each."""


@dataclass(frozen=True)
class InputPlanes(ABC):
    """One kind of image-shaped input. The methods with a body have the default of a kind that lacks the thing."""

    config: ModelConfig

    name: ClassVar[str]
    """The kind in the messages of --init."""
    by_sampler: ClassVar[bool] = False
    """True: the sampler supplies it at every step, and the U-Net's own configuration counts its channels."""

    droppable: ClassVar[bool] = False
    """True: left out of a share of the examples in training, apart from their captions."""

    @staticmethod
    def used(config: ModelConfig) -> bool:
        """True where the configuration switches this kind on."""
        return False

    @property
    def label(self) -> str:
        """The part among those of one model, in the messages of --init."""
        return self.name

    @property
    @abstractmethod
    def channels(self) -> int:
        """Input channels of the stem, as pixels have them (before patches)."""

    def modules(self) -> dict[str, nn.Module]:
        """Modules that the model holds for it, by their names in the model's state."""
        return {}

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Inputs for a training batch: image [N,C,H,W] in [-1, 1], and the kind's own keys."""
        return {}

    def from_estimate(
        self, uniform: Callable[[], Tensor], estimate: Callable[[], Tensor]
    ) -> dict[str, Tensor]:
        """Inputs in training that need a first prediction of the network, made with all other inputs.

        uniform: draws a number from 0 to 1 for each example, [N]. estimate: predicts x0, [N,C,H,W] in [-1, 1].
        """
        return {}

    def without(self, inputs: Inputs, dropped: Tensor) -> dict[str, Tensor]:
        """(droppable) The part's inputs in training, left out where `dropped` [N] is true."""
        return {}

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        """Inputs for N = images of `size` of which nothing is known; none where the kind cannot do without."""
        return {}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        """Inputs [1,...] for one picture. InputError where pixels are missing, or cannot be shown."""
        return {}

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        """The part of the conditioning that these inputs make.

        size: (H, W) of x_t. model: holds `modules`. dtype: that the U-Net computes in.
        """
        return Conditioning()
