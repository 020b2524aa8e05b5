"""The second stage: an upsampler with its settings, which enlarges what a base model drew, or a picture of a user.

    stage = Upscaler.load("shapes", UPSAMPLING)                      # from upsampler.parts
    large = stage.enlarged(pixels, ImageRequest(seed=0, caption="a red ring"))

How a picture is fitted, noised and cut into tiles is the package `upsampler`'s, which is handed over as `Upsampling`:
the two packages never import each other. Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.diffusion.samplers.registry import UPSAMPLING_STEPS
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.dtype import AUTO
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from guidance.names import named
from toolkit.pipelines.pipeline import Around, Pipeline, Step
from toolkit.pipelines.settings import SamplingConfig

DEFAULT_CONFIG = SamplingConfig(respacing=str(UPSAMPLING_STEPS), guidance="none")
"""How an upsampler enlarges where nothing else is asked for."""

DrawOne = Callable[[Tensor, float, int, tuple[int, int]], Iterator[Step]]
"""low_res [3,h,w], the level of its noise, a seed, and the (H, W) to draw."""


class Upsampling(Protocol):
    """What the package `upsampler` brings along, `toolkit.pipelines.parts.UPSAMPLING`."""

    @property
    def enlarge(self) -> Callable[[DrawOne, ModelConfig, Tensor, int, float], Iterator[Tensor]]:
        """(draw, config, uint8 [h,w,3], seed, noise) -> x [1,3,H,W] after each step."""

    @property
    def tiles(self) -> Around:
        """Calls a network in tiles where a picture is larger than its own size."""

    @property
    def check(self) -> Callable[[ModelConfig, str], None]:
        """InputError for a model, of that name, that is no upsampler."""

    @property
    def places(self) -> tuple[Path, ...]:
        """Folders with embedded upsamplers."""


@dataclass(frozen=True)
class Upscaler:
    """An upsampler, ready to enlarge."""

    pipe: Pipeline
    settings: SamplingConfig
    upsampling: Upsampling
    noise: float = 0.0
    """Added to what is enlarged, see `upsampler.cascade.enlarge`."""

    @classmethod
    def load(
        cls,
        name: str,
        upsampling: Upsampling,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = AUTO,
        vocab: str | None = None,
        compiles: bool = False,
    ) -> Upscaler:
        """The upsampler of that name, with the usual settings. Names and errors as `Pipeline.from_pretrained`."""
        # calls of one picture, which is large: so what is enlarged beside it changes nothing
        pipe = Pipeline.from_pretrained(
            name, device, dtype, 1, vocab, upsampling.tiles, upsampling.places, compiles
        )
        upsampling.check(pipe.model.config, name)
        return cls(pipe, DEFAULT_CONFIG, upsampling)

    @property
    def scale(self) -> int:
        """How many times a picture is enlarged."""
        return self.pipe.model.config.scale

    @property
    def steps(self) -> int:
        """Of the sampler, for each picture."""
        return self.pipe.steps(self.settings)

    def check(self, pictures: Sequence[ImageRequest]) -> None:
        """InputError for what the model cannot be told of these pictures, or guided by; no step is made."""
        config = self.pipe.model.config
        blank = torch.zeros(config.low_res_size, config.low_res_size, 3, dtype=torch.uint8)
        for picture in pictures:
            if config.num_classes and (picture.label or 0) >= config.num_classes:
                raise InputError(
                    f"got the class {picture.label} for an upsampler of {config.num_classes} classes, expected one of "
                    "both models: give an upsampler of the same classes"
                )
            self.enlarge(blank, picture)

    def asked(self, picture: ImageRequest) -> ImageRequest:
        """The picture with only as much of its caption and class as something here reads."""
        config = self.pipe.model.config
        readers = [named(term.name) for term in self.settings.terms]
        caption = config.text is not None or any(reader.captions for reader in readers)
        label = config.num_classes > 0 or any(reader.labels for reader in readers)
        return replace(
            picture, caption=picture.caption if caption else "", label=picture.label if label else None
        )

    def enlarge(self, pixels: Tensor, picture: ImageRequest) -> Iterator[Tensor]:
        """Enlarge uint8 [h,w,3] of any size, told the picture's caption or class; yields x [1,3,H,W] after each step.

        What is known of the large picture (`given.image`, where `given.mask` is 1) stays as it is. InputError, at once,
        for what the model cannot be told, or a picture too large.
        """
        asked = self.asked(picture)

        def draw(low_res: Tensor, noise: float, seed: int, size: tuple[int, int]) -> Iterator[Step]:
            given = replace(_framed(asked.given, size), low_res=low_res, noise=noise)
            return self.pipe.draw([replace(asked, seed=seed, given=given)], self.settings, size=size)

        return self.upsampling.enlarge(draw, self.pipe.model.config, pixels, picture.seed, self.noise)

    def enlarged(self, pixels: Tensor, picture: ImageRequest) -> Tensor:
        """The same without watching: uint8 [H,W,3]."""
        for x in self.enlarge(pixels, picture):
            last = x
        return to_uint8(last)[0]

    def recipe(self, picture: ImageRequest) -> dict[str, Any]:
        """All that is needed to enlarge the picture again, besides what it was, JSON-able."""
        return {**self.pipe.recipe(self.asked(picture), self.settings, 0), "noise": self.noise}


def _framed(given: KnownPixels, size: tuple[int, int]) -> KnownPixels:
    """The known pixels alone, for a picture of `size` (H, W): what lies beyond them to the right and below is not."""
    if given.image is None or given.mask is None:
        return KnownPixels()
    height, width = given.image.shape[-2:]
    beyond = (0, size[1] - width, 0, size[0] - height)
    return KnownPixels(image=F.pad(given.image, beyond), mask=F.pad(given.mask, beyond), told=given.told)


def enlarger(
    model: Model, upsampling: Upsampling, dtype: torch.dtype | str = AUTO
) -> Callable[[Tensor, str, int | None, int], Tensor]:
    """What enlarges pictures with a copy of a model in training, as it is now, by the usual settings.

    It takes uint8 [h,w,3], a caption, a class and a seed, and returns uint8 [H,W,3].
    """
    pipe = Pipeline(copy.deepcopy(model), "", dtype, 1, around=upsampling.tiles, owned=True)
    stage = Upscaler(pipe, DEFAULT_CONFIG, upsampling)

    def enlarge(pixels: Tensor, caption: str, label: int | None, seed: int) -> Tensor:
        return stage.enlarged(pixels, ImageRequest(seed, caption, label))

    return enlarge


def check_weights(stage: Upscaler, name: str, recipe: Mapping[str, Any], file: str) -> None:
    """InputError where the upsampler of that name is not the one that enlarged the picture in `file`."""
    if name.partition("@")[0] == str(recipe.get("model")).partition("@")[
        0
    ] and stage.pipe.fingerprint != recipe.get("weights"):
        raise InputError(
            f"the upsampler {name} has other weights ({stage.pipe.fingerprint}) than the one that enlarged {file} "
            f"({recipe.get('weights')}): give that one by --upsampler"
        )
