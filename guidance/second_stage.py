"""A second stage (`guidance.enlarge.Enlarge`) that is a pipeline of its own, of a model that enlarges.

Shape letters: N pictures, h w pixels of the first stage, H W of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from glide.errors import InputError
from glide.images import from_uint8, to_uint8
from guidance.conditions import Given, Picture
from guidance.pipeline import Pipeline
from guidance.settings import Settings

USUAL = Settings("ddim", "fast27", 0.0, "none")  # as GLIDE (2112.10741) samples its upsampler


class SecondStage:
    """The known pixels are told to a model with inpainting planes, and pinned in any."""

    def __init__(self, pipe: Pipeline, settings: Settings = USUAL) -> None:
        """InputError for a model that enlarges nothing."""
        if not pipe.model.config.low_res:
            raise InputError(
                f"got {pipe.name or 'a base model'} as the second stage, which enlarges nothing, expected an "
                "upsampler: give one, or none"
            )
        pipe.process(settings)  # a respacing that does not fit, before the first stage has drawn
        self.pipe, self.settings = pipe, settings

    @property
    def size(self) -> int:
        return self.pipe.model.config.unet.image_size

    def recipe(self) -> dict[str, Any]:
        kept = ("model", "weights", "sampler", "respacing", "eta", "guidance", "scale", "dtype", "call_size")
        told = self.pipe.recipe(Picture(0), self.settings, 0)
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
        """As `Enlarge`. small is rounded to 8 bits, as the pictures are that an upsampler is trained on."""
        config = self.pipe.model.config
        pictures = [
            Picture(
                seed,
                caption if config.text is not None else "",
                label if config.num_classes else None,
                Given(low_res=one, image=image, mask=mask),
            )
            for one, caption, label, seed in zip(
                from_uint8(to_uint8(small)), captions, labels, seeds, strict=True
            )
        ]
        for step in self.pipe.draw(pictures, self.settings):
            x = step.x
        return x.cpu()
