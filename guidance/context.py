"""A model that is ready to draw, as guidances and sampling loops see it.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Network, Predictor
from glide.networks.conditioner import Conditioner
from glide.networks.fixed_batch import call_size_of, channels_last, default_call_size
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.unet import UNet
from glide.utils.class_names import HasClasses
from guidance.base import Guidance
from guidance.guide_networks import GuideNetworks
from guidance.options import Options
from guidance.registry import interval_of, named
from guidance.scheduled import Scheduled
from guidance.spec import GuidanceSpec
from guidance.strength_schedule import noise_share

WrapNetwork = Callable[[Network, Model], Network]
"""Wraps a model's network, for example to run it in tiles."""


@dataclass(frozen=True, eq=False)
class ModelContext:
    """A model on its device, with what draws and guides it. Pipelines of one model share all networks."""

    model: Model
    unet: UNet
    """The model's U-Net in `dtype`."""
    runner: Any
    """The same, compiled on request; called as the U-Net is."""
    conditioner: Conditioner
    guide_networks: GuideNetworks
    device: torch.device
    dtype: torch.dtype
    call_size: int | None
    """Pictures in one network call (glide/networks/fixed_batch.py). None: chosen for each run."""
    name: str
    fingerprint: str
    vocab: str | None = None
    wrap: WrapNetwork | None = None
    compiled: bool = False

    @property
    def predict(self) -> Predictor:
        """The model's predictions, by calls of `call_size` pictures."""
        return self.predict_by(self.runner)

    def predict_by(self, network: Network, model: Model | None = None) -> Predictor:
        """Predictions of a network that stands in for the model's, by calls of the same size and wrapped alike.

        model: whose network it is, where that is another model; it is not wrapped.
        """
        wrapped = model is None and self.wrap is not None
        if wrapped and self.wrap is not None:
            network = self.wrap(channels_last(network), self.model)
        of = model or self.model
        return Predictor(network, of.process, of.config.process.prediction, self.call_size, not wrapped)

    def classes(self, specs: Sequence[GuidanceSpec], options: Options) -> HasClasses:
        """The owner of the classes that labels name: the model, or without any the classifier that guides it."""
        config = self.model.config
        if not config.num_classes and any(spec.name == "classifier" for spec in specs):
            return self.guide_networks.classifier(options).config
        return config

    def for_run(self, pictures: int) -> ModelContext:
        """This context with the call size of a run of so many pictures, unless it has one."""
        if self.call_size is not None:
            return self
        return replace(self, call_size=call_size_of(pictures, default_call_size(self.model, self.device)))


@dataclass(frozen=True, eq=False)
class GuidanceInputs:
    """The inputs of a guidance's builder: the rows of one sampling loop, in order, and the model that draws them."""

    context: ModelContext
    """Of the run: its `call_size` is set."""
    requests: Sequence[ImageRequest]  # N
    cond: Conditioning
    """Their conditioning, [N,...]."""
    options: Options
    size: tuple[int, int] | None = None
    """(h, w) of what the U-Net draws; None: as its configuration says."""

    def make(self, spec: GuidanceSpec) -> list[Guidance]:
        """The guidances that a spec stands for. InputError if they cannot be built from these inputs."""
        entry, steps = named(spec.name), len(self.context.model.process)
        strength = partial(spec.strength, neutral=entry.neutral)
        strengths = [strength(noise_share(t, steps)) for t in range(steps)]
        # a builder may see at once that a strength without effect asks for nothing
        most = max(strengths, key=lambda scale: abs(scale - entry.neutral))
        built = entry.build(self, most, interval_of(spec, steps))
        made = [built] if isinstance(built, Guidance) else list(built)
        if spec.schedule is None:
            return made
        for one in made:  # a strength that it cannot have is refused now, not at some step
            one.with_scale(min(strengths))
            one.with_scale(max(strengths))
        return [Scheduled(one, strength, steps) for one in made]
