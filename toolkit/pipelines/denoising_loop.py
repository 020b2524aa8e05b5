"""The state of one sampling run: guided denoiser, respaced process and known pixels.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from glide.diffusion.denoiser import Predict, replace_known
from glide.diffusion.process import Process
from glide.diffusion.repaint import repaint_schedule
from glide.diffusion.self_conditioning import SelfConditioned
from glide.diffusion.timestep_spacing import space_timesteps
from glide.diffusion.x0_transforms import dynamic_threshold
from glide.networks.deep_cache import DeepCache
from glide.networks.diffusers_model import DiffusersUNet
from glide.networks.first_stage import PIXELS, FirstStage
from glide.networks.image_request import ImageRequest
from glide.networks.picture_sizes import in_first_stage, multiple_of
from glide.utils.errors import InputError
from glide.utils.picture_size import check_multiple
from guidance.base import Guidance
from guidance.context import GuidanceInputs, ModelContext
from guidance.guided_denoiser import GuidedDenoiser
from guidance.internal import check_inner_head
from guidance.registry import named
from toolkit.pipelines.conditions import left_out
from toolkit.pipelines.features import Features, observed
from toolkit.pipelines.known_pixels import in_model_space, known_of
from toolkit.pipelines.padding import Padding, RealRowsOnly
from toolkit.pipelines.settings import SamplingConfig


class NotFinite(InputError):
    """A result that is no picture: its values are not finite."""


@dataclass(frozen=True, eq=False)
class DenoisingLoop:
    """The state of a run of N pictures: rows fill whole network calls, of which `padding.real` are the pictures."""

    denoise: GuidedDenoiser
    process: Process
    rows: Sequence[ImageRequest]
    padding: Padding
    size: tuple[int, int]  # (h, w) of what the network draws
    known: tuple[Tensor, Tensor] | None  # image [N,c,h,w] and mask [N,1,h,w], 1 where it is known
    first_stage: FirstStage = PIXELS

    @torch.no_grad()
    def decode(self, x: Tensor) -> Tensor:
        """From what the network draws, [N,c,h,w], to pictures [N,C,H,W]."""
        return self.first_stage.decode(x)

    def pasted(self, x: Tensor, last: bool) -> Tensor:
        """x, in the last step with the known pixels as they are: a gradient can move them by rounding.

        NotFinite where the last step's is no picture.
        """
        if last and not bool(torch.isfinite(x[self.padding.real]).all()):
            raise NotFinite(
                "the network drew values that are not finite (nan or infinite), which are no picture: use --dtype "
                "float32 and a smaller guidance scale, or other weights"
            )
        return x if self.known is None or not last else replace_known(*self.known)(x)


def denoising_loop(
    context: ModelContext,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    guidances: Sequence[Guidance],
    place: int,
    size: tuple[int, int] | None,
    watching: Sequence[Features] = (),
) -> DenoisingLoop:
    """Arguments and errors as of `BasePipeline.draw`. watching: features that are read or changed."""
    if not pictures:
        raise InputError("got no picture to draw, expected at least one: give a prompt")
    context = context.for_run(len(pictures))
    options, config = settings.options, context.model.config
    settings = settings.settled(config)
    assert context.call_size is not None
    _check_captions(context, pictures, settings)
    stage = context.model.first_stage
    size = size or settings.size
    if size is not None:
        check_multiple(size, multiple_of(config), "the size")
    size = in_first_stage(config, size)
    if options.threshold is not None and config.first_stage is not None:
        raise InputError(
            "got a dynamic threshold for a model that draws latents, which have no bound, expected none: leave it out"
        )
    pictures, specs = left_out(in_model_space(stage, pictures, context.device), settings.specs)
    padding = Padding.of(len(pictures), place % context.call_size, context.call_size)
    context = observed(context, watching, padding, settings)
    rows = [pictures[0]] * padding.front + list(pictures) + [pictures[-1]] * padding.back
    cond = context.conditioner.of(rows, size)
    inputs = GuidanceInputs(context, rows, cond, options, size)
    guiding = [guidance for spec in specs for guidance in inputs.make(spec)]
    guiding += [RealRowsOnly(guidance, padding) for guidance in guidances]
    check_inner_head(context, guiding, settings.deep_every)
    denoise = GuidedDenoiser(
        _predict_of(context, settings),
        cond,
        guiding,
        options.rescale,
        [stage.clamp if options.threshold is None else dynamic_threshold(options.threshold)],
        known := known_of(rows, context.device),
    )
    process = respaced_process(context.model.process, settings)
    return DenoisingLoop(denoise, process, rows, padding, size, known, stage)


def respaced_process(whole: Process, settings: SamplingConfig) -> Process:
    """A model's process, respaced, and without the noisiest part that the settings' strength leaves out."""
    strength = settings.strength
    kept = space_timesteps(whole, settings.respacing, settings.spaced)
    most = max(math.ceil(strength * len(whole)), 1)  # timesteps below the strength
    below = [t for t in kept if t < strength * len(whole)] or [min(kept[0], most - 1)]
    if strength < 1.0 and settings.spaced != "uniform":
        # uneven steps may be far apart there: as many begin at that very strength
        part = whole.respaced(range(most))
        below = space_timesteps(part, str(len(below)), settings.spaced)
    return whole.respaced(below)


def step_count(whole: Process, settings: SamplingConfig) -> int:
    """Number of steps of a run, RePaint's resampling included. InputError for a respacing that does not fit."""
    return len(repaint_schedule(len(respaced_process(whole, settings)), settings.jump, settings.resamplings))


def _predict_of(context: ModelContext, settings: SamplingConfig) -> Predict:
    """The network's predictions, or those of one with a state, which is of one run alone."""
    predict: Predict = context.predict
    if settings.deep_every > 1:
        if isinstance(context.unet, DiffusersUNet):
            raise InputError(
                "got --deep-every for a network of diffusers, expected one of this project: leave it out"
            )
        if context.compiled:
            raise InputError(
                "got a compiled network of which the deep levels are to be left out at some steps, expected one or "
                "the other: leave --compile or --deep-every out"
            )
        predict = context.predict_by(DeepCache(context.unet, settings.deep_every))
    model = context.model
    return SelfConditioned(predict, model.first_stage.clamp) if model.config.unet.self_condition else predict


def _check_captions(
    context: ModelContext, pictures: Sequence[ImageRequest], settings: SamplingConfig
) -> None:
    """InputError for a caption that neither the model nor a guidance would read."""
    captions = [picture.caption for picture in pictures if picture.caption]
    read = context.model.config.reads_captions or any(named(spec.name).captions for spec in settings.specs)
    if captions and not read:
        raise InputError(
            f"got the caption {captions[0]!r} for a model without text, expected none: leave it out"
        )
