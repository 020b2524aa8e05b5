"""The second stage of inpainting (`toolkit.pipelines.enlarge.EnlargeAround`), by the upsampler of a cascade.

Shape letters: N pictures, h w pixels of the first stage, H W of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.utils.images import to_uint8
from toolkit.pipelines.upscale import Upscaler


class SecondStage:
    """The known pixels are told to an upsampler with inpainting planes, and pinned in any."""

    def __init__(self, stage: Upscaler, small: int) -> None:
        """small: side of the first stage's pictures."""
        self.stage, self.small = stage, small
        stage.pipe.steps(stage.settings)  # a respacing that does not fit, before the first stage has drawn

    @property
    def size(self) -> int:
        return self.small * self.stage.scale

    def recipe(self) -> dict[str, Any]:
        kept = (
            "model",
            "weights",
            "sampler",
            "respacing",
            "spacing",
            "eta",
            "guidance",
            "scale",
            "noise",
            "dtype",
            "vocab",
        )
        told = self.stage.recipe(ImageRequest(0))
        return {name: told[name] for name in kept if name in told}

    def __call__(
        self,
        small: Tensor,
        *,
        image: Tensor,
        mask: Tensor,
        captions: Sequence[str],
        labels: Sequence[int | None],
        seeds: Sequence[int],
    ) -> Tensor:
        """As `EnlargeAround`. small is rounded to 8 bits, as the pictures are that an upsampler is trained on."""
        given = KnownPixels(image=image, mask=mask)
        large = []
        for pixels, caption, label, seed in zip(to_uint8(small), captions, labels, seeds, strict=True):
            for x in self.stage.enlarge(pixels, ImageRequest(seed, caption, label, given)):
                last = x
            large.append(last.cpu())
        return torch.cat(large)
