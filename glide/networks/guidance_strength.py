"""The strength of guidance as an input of a distilled model (2210.03142, section 3.1).

Shape letters: N batch, E width of the time embedding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig
from glide.networks.image_request import KnownPixels
from glide.networks.input_kind import InputPlanes, Inputs
from glide.networks.layers import linear_by_rows, timestep_embedding, zero_init

NO_GUIDANCE = 1.0
"""The strength w of null + w (conditional - null) that is the conditional model itself."""
RADIANS = 2.0
"""Of the fastest wave of the features, for a factor of e in 1 + strength: a student is smooth in it."""
GAIN = 32.0
"""On the embedding. That of a trained network's timestep has a norm of about 100. Updates of Adam and Muon have one
size, whatever the gradient's: without a gain the strength has no effect for thousands of steps."""


class GuidanceStrength(InputPlanes):
    """The strength w of classifier-free guidance, embedded like a timestep and added to its embedding.

    input: guidance_strength [N]; 1, no guidance, where it is not given. The embedding of 1 is exactly zero, so that a
    student without guidance, or outside of its interval, is a network without this input.
    """

    name = "guidance strength"

    @staticmethod
    def used(config: ModelConfig) -> bool:
        return config.student is not None and bool(config.student.strengths)

    @property
    def channels(self) -> int:
        return 0

    def modules(self) -> dict[str, nn.Module]:
        """Two layers that end in zeros: a student begins as its teacher, whatever the strength."""
        features = self.config.unet.channels
        width = 4 * features
        last = zero_init(nn.Linear(width, width, bias=False))
        return {"strength_in": nn.Linear(features, width), "strength_out": last}

    def from_batch(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """batch: guidance_strength as above, where it is in the batch."""
        return {name: batch[name] for name in ("guidance_strength",) if name in batch}

    def unknown(self, images: int, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        return {"guidance_strength": torch.full((images,), NO_GUIDANCE, device=device)}

    def known(self, given: KnownPixels, size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
        return self.unknown(1, size, device)

    def conditioning(
        self, inputs: Inputs, size: tuple[int, int], model: nn.Module, dtype: torch.dtype
    ) -> Conditioning:
        if "guidance_strength" not in inputs:
            return Conditioning()
        return Conditioning(level=self.embedded(inputs["guidance_strength"], model, dtype))

    def embedded(self, strength: Tensor, model: nn.Module, dtype: torch.dtype) -> Tensor:
        """GAIN W2 (silu(W1 f(w)) - silu(W1 f(1))): strength [N] -> [N,E].

        model: holds the layers. dtype: the U-Net's.
        """
        first, last = (cast(nn.Linear, model.get_submodule(name)) for name in ("strength_in", "strength_out"))

        def hidden(w: Tensor) -> Tensor:
            waves = RADIANS * (torch.log1p(w.float()) - math.log1p(NO_GUIDANCE))
            features = timestep_embedding(waves, self.config.unet.channels)
            return F.silu(linear_by_rows(first, features, dtype))  # [N,E]

        difference = hidden(strength) - hidden(torch.full_like(strength, NO_GUIDANCE))
        return GAIN * linear_by_rows(last, difference, dtype)
