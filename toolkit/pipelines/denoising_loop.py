"""What a run of N pictures walks on: their denoiser with all that steers it, the process, what is known of them.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glide.diffusion.denoiser import Denoiser, Predict, Prediction, clamp, pin_known, project, replace_known
from glide.diffusion.process import Process
from glide.diffusion.self_conditioning import SelfConditioned
from glide.diffusion.x0_transforms import dynamic_threshold
from glide.networks.deep_cache import DeepCache
from glide.networks.image_request import ImageRequest
from glide.utils.errors import InputError
from guidance.base import Guidance, guide
from guidance.names import named
from guidance.registry import Subject, make
from toolkit.pipelines.known_pixels import known_of
from toolkit.pipelines.padding import Padding, RealRowsOnly
from toolkit.pipelines.settings import SamplingConfig

if TYPE_CHECKING:
    from toolkit.pipelines.pipeline import Pipeline


class NotFinite(InputError):
    """A result that is no picture: its values are not finite."""


@dataclass(frozen=True, eq=False)
class Loop:
    """What a run of N pictures walks on: rows fill whole network calls, of which `places.real` are the pictures."""

    denoise: Denoiser
    process: Process
    rows: Sequence[ImageRequest]
    places: Padding
    size: tuple[int, int]  # (H, W)
    known: tuple[Tensor, Tensor] | None  # image [N,3,H,W] and mask [N,1,H,W], 1 where it is known

    def pasted(self, x: Tensor, last: bool) -> Tensor:
        """x, in the last step with the known pixels as they are: a gradient can move them by rounding.

        NotFinite where the last step's is no picture.
        """
        if last and not bool(torch.isfinite(x[self.places.real]).all()):
            raise NotFinite(
                "the network drew values that are not finite (nan or infinite), which are no picture: use --dtype "
                "float32 and a smaller guidance scale, or other weights"
            )
        return x if self.known is None or not last else replace_known(*self.known)(x)


def loop_of(
    pipe: Pipeline,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    guidances: Sequence[Guidance],
    place: int,
    size: tuple[int, int] | None,
) -> Loop:
    """Arguments and errors as of `Pipeline.draw`."""
    if not pictures:
        raise InputError("got no picture to draw, expected at least one: give a prompt")
    pipe = pipe.for_run(len(pictures))
    assert pipe.call_size is not None
    _check_told(pipe, pictures, settings)
    size = size or (pipe.model.config.unet.image_size,) * 2
    places = Padding.of(len(pictures), place % pipe.call_size, pipe.call_size)
    rows = [pictures[0]] * places.front + list(pictures) + [pictures[-1]] * places.back
    options = settings.options
    cond = pipe.conditions.of(rows, size)
    subject = Subject(pipe, rows, cond, options)
    all_guidances = [
        *(guidance for term in settings.terms for guidance in make(term, subject)),
        *(RealRowsOnly(guidance, places) for guidance in guidances),
    ]
    steered = guide(_predict_of(pipe, settings), cond, all_guidances, options.rescale)
    bound = clamp if options.threshold is None else dynamic_threshold(options.threshold)
    denoise, known = project(steered, bound), known_of(rows, pipe.device)
    if known is not None:  # after the bound, which may scale a whole picture
        denoise = pin_known(denoise, *known)
    return Loop(denoise, pipe.process(settings), rows, places, size, known)


def _predict_of(pipe: Pipeline, settings: SamplingConfig) -> Predict:
    """The network's, or one that remembers, which is of one run alone."""
    predict = pipe.predict
    if settings.deep_every > 1:
        if pipe.compiles:
            raise InputError(
                "got a compiled network of which the deep levels are to be left out at some steps, expected one or "
                "the other: leave --compile or --deep-every out"
            )
        predict = pipe.predict_by(DeepCache(pipe.unet, settings.deep_every))
    return SelfConditioned(predict) if pipe.model.config.unet.self_condition else predict


def _check_told(pipe: Pipeline, pictures: Sequence[ImageRequest], settings: SamplingConfig) -> None:
    """InputError for a caption that neither the model nor a guidance would look at."""
    captions = [picture.caption for picture in pictures if picture.caption]
    read = pipe.model.config.text is not None or any(named(term.name).captions for term in settings.terms)
    if captions and not read:
        raise InputError(
            f"got the caption {captions[0]!r} for a model without text, expected none: leave it out"
        )


class Seen:
    """A denoiser that remembers its last x0."""

    x0: Tensor

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise

    def __call__(self, x: Tensor, t: int) -> Prediction:
        self.x0 = x[:0]  # the last one is not held while the next is predicted: it can be large
        prediction = self.denoise(x, t)
        self.x0 = prediction.x0
        return prediction
