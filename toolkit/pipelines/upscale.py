"""The second stage: an upsampler with its settings, which enlarges what a base model drew, or a user's picture.

    upscaler = Upscaler.load("shapes")
    large = upscaler.enlarged(pixels, ImageRequest(seed=0, caption="a red ring"))

Shape letters: N pictures, H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.model_parts import with_part
from glide.checkpoints.names import embedded_models
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.dtype import AUTO
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from guidance.registry import named
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.output import Step
from toolkit.pipelines.settings import SamplingConfig
from upsampler.cascade import prepare
from upsampler.presets import EMBEDDED, check_upsampler
from upsampler.tiling import in_tiles

DEFAULT_CONFIG = SamplingConfig(guidance="none")


@dataclass(frozen=True)
class Upscaler:
    """An upsampler, ready to enlarge."""

    pipe: BasePipeline
    settings: SamplingConfig = DEFAULT_CONFIG
    noise: float = 0.0
    """Added to what is enlarged, see `upsampler.cascade.prepare`."""

    @classmethod
    def load(
        cls,
        name: str,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = AUTO,
        vocab: str | None = None,
        compiles: bool = False,
    ) -> Upscaler:
        """The upsampler of that name, with the default settings. Names and errors as `Pipeline.from_pretrained`.

        The name of a model that has one in its folder (`glide.checkpoints.model_parts`) stands for that one.
        """
        own = name in embedded_models(EMBEDDED)
        inner = None if own else with_part(name, "upsampler")
        # calls of one picture, which is large: so what is enlarged beside it changes nothing
        pipe = BasePipeline.from_pretrained(
            inner or name, device, dtype, 1, vocab, wrap=in_tiles, places=(EMBEDDED,), compiles=compiles
        )
        if inner is not None:
            pipe.context = replace(pipe.context, name=name)
        check_upsampler(pipe.model.config, name)
        return cls(pipe)

    @property
    def scale(self) -> int:
        """Factor by which height and width grow."""
        return self.pipe.model.config.scale

    @property
    def steps(self) -> int:
        """Steps of the sampler, for each picture."""
        return self.pipe.steps(self.settings)

    def check(self, pictures: Sequence[ImageRequest]) -> None:
        """InputError for captions and classes that the model or its guidances cannot take; no step is made."""
        config = self.pipe.model.config
        blank = torch.zeros(config.low_res_size, config.low_res_size, 3, dtype=torch.uint8)
        for picture in pictures:
            if config.num_classes and (picture.label or 0) >= config.num_classes:
                raise InputError(
                    f"got the class {picture.label} for an upsampler of {config.num_classes} classes, expected one of "
                    "both models: give an upsampler of the same classes"
                )
            self.enlarge(blank, picture)

    def request(self, picture: ImageRequest) -> ImageRequest:
        """The request with a caption and a class only where something here reads them."""
        config = self.pipe.model.config
        readers = [named(spec.name) for spec in self.settings.specs]
        caption = config.reads_captions or any(reader.captions for reader in readers)
        label = config.num_classes > 0 or any(reader.labels for reader in readers)
        return replace(
            picture, caption=picture.caption if caption else "", label=picture.label if label else None
        )

    def enlarge(self, pixels: Tensor, picture: ImageRequest) -> Iterator[Tensor]:
        """Enlarge uint8 [h,w,3] of any size, conditioned on the picture's caption or class.

        Yields x [1,3,H,W] after each step. Known pixels of the large picture (`given.image`, where `given.mask` is 1)
        stay as they are. InputError, at once, for a condition that the model cannot take, or a picture too large.
        """
        request = self.request(picture)
        found = prepare(self.pipe.model.config, pixels, picture.seed, self.noise)
        given = replace(_padded(request.given, found.size), low_res=found.low_res, noise=found.noise)
        request = replace(request, seed=found.seed, given=given)
        return _cropped(self.pipe.draw([request], self.settings, size=found.size), *found.crop)

    def enlarged(self, pixels: Tensor, picture: ImageRequest) -> Tensor:
        """The result of `enlarge` alone: uint8 [H,W,3]."""
        for x in self.enlarge(pixels, picture):
            last = x
        return to_uint8(last)[0]

    def recipe(self, picture: ImageRequest) -> dict[str, Any]:
        """All that is needed to enlarge the picture again, besides what it was, JSON-able."""
        return {**self.pipe.recipe(self.request(picture), self.settings, 0), "noise": self.noise}

    def check_weights(self, name: str, recipe: Mapping[str, Any], file: str) -> None:
        """InputError where the upsampler of that name is not the one that enlarged the picture in `file`."""
        same_name = name.partition("@")[0] == str(recipe.get("model")).partition("@")[0]
        if same_name and self.pipe.fingerprint != recipe.get("weights"):
            raise InputError(
                f"the upsampler {name} has other weights ({self.pipe.fingerprint}) than the one that enlarged {file} "
                f"({recipe.get('weights')}): give that one by --upsampler"
            )


@dataclass(frozen=True)
class InpaintUpscaler:
    """The second stage of inpainting. An upsampler with inpainting planes sees the known pixels; any keeps them."""

    upscaler: Upscaler
    small: int
    """H = W of the first stage's pictures."""

    def __post_init__(self) -> None:
        """InputError for a respacing that does not fit, before the first stage has drawn."""
        self.upscaler.pipe.steps(self.upscaler.settings)

    @property
    def size(self) -> int:
        """H = W of its pictures."""
        return self.small * self.upscaler.scale

    def recipe(self) -> dict[str, Any]:
        """All that is needed to draw its pictures again, JSON-able."""
        kept: tuple[str, ...] = (
            "model",
            "weights",
            "sampler",
            "respacing",
            "spacing",
            "eta",
            "guidance",
            "scale",
        )
        kept += ("noise", "dtype", "vocab")
        found = self.upscaler.recipe(ImageRequest(0))
        return {name: found[name] for name in kept if name in found}

    def enlarge(
        self,
        small: Tensor,
        *,
        image: Tensor,
        mask: Tensor,
        captions: Sequence[str],
        labels: Sequence[int | None],
        seeds: Sequence[int],
    ) -> Tensor:
        """small [N,3,h,w] in [-1, 1] -> [N,3,H,W], on the CPU.

        small is rounded to 8 bits, as the pictures are that an upsampler is trained on. image [3,H,W] is the same of
        all, kept where mask [1,H,W] is 1. captions, labels, seeds: of the N pictures.
        """
        given = KnownPixels(image=image, mask=mask)
        large = []
        for pixels, caption, label, seed in zip(to_uint8(small), captions, labels, seeds, strict=True):
            for x in self.upscaler.enlarge(pixels, ImageRequest(seed, caption, label, given)):
                last = x
            large.append(last.cpu())
        return torch.cat(large)


def _cropped(steps: Iterable[Step], height: int, width: int) -> Iterator[Tensor]:
    """x [1,3,height,width] of each step, and nothing else of it, which would be held while the next one is made."""
    for step in steps:
        x = step.x[..., :height, :width]
        del step
        yield x


def _padded(given: KnownPixels, size: tuple[int, int]) -> KnownPixels:
    """The known pixels alone, for a picture of `size` (H, W); the rows and columns that it has more are unknown."""
    if given.image is None or given.mask is None:
        return KnownPixels()
    height, width = given.image.shape[-2:]
    beyond = (0, size[1] - width, 0, size[0] - height)
    return KnownPixels(
        image=F.pad(given.image, beyond), mask=F.pad(given.mask, beyond), visible=given.visible
    )


def enlarger(
    model: Model, dtype: torch.dtype | str = AUTO
) -> Callable[[Tensor, str, int | None, int], Tensor]:
    """Enlarges pictures with a copy of a model in training, as it is now, by the default settings.

    It takes uint8 [h,w,3], a caption, a class and a seed, and returns uint8 [H,W,3].
    """
    upscaler = Upscaler(BasePipeline(copy.deepcopy(model), "", dtype, 1, wrap=in_tiles, owned=True))

    def enlarge(pixels: Tensor, caption: str, label: int | None, seed: int) -> Tensor:
        return upscaler.enlarged(pixels, ImageRequest(seed, caption, label))

    return enlarge
