"""The pipeline without its Python conveniences: a model by name, ready to draw.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from glide.checkpoints.load import load_with_vocabulary
from glide.checkpoints.provenance import fingerprint
from glide.diffusion.process import Process
from glide.diffusion.repaint import repaint, repaint_schedule
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.registry import find_sampler
from glide.networks.compile import compiled
from glide.networks.conditioner import Conditioner
from glide.networks.cpu.allocator import in_own_pages, keep_freed_memory
from glide.networks.cpu.prepacked import pack_
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.picture_sizes import in_first_stage
from glide.networks.reduced_precision import lower_, lowered
from glide.networks.unet import UNet
from glide.utils.class_names import HasClasses
from glide.utils.device import find_device
from glide.utils.dtype import AUTO, find_dtype
from glide.utils.errors import InputError
from glide.utils.hub import at_revision
from glide.utils.memory import check_memory
from glide.utils.numbers import whole
from guidance.base import Guidance
from guidance.context import ModelContext, WrapNetwork
from guidance.guide_networks import GuideNetworks
from toolkit.pipelines.denoising_loop import DenoisingLoop, denoising_loop, respaced_process, step_count
from toolkit.pipelines.features import ActiveFeatures
from toolkit.pipelines.interrupts import Interrupts
from toolkit.pipelines.keyword_arguments import refuse_unknown
from toolkit.pipelines.known_pixels import begin
from toolkit.pipelines.output import Step
from toolkit.pipelines.recipe import recipe_of
from toolkit.pipelines.settings import SamplingConfig

BAR = {"unit": "step", "desc": "drawing"}
CACHE_BYTES = 2**28  # bytes of freed memory, for the activations of the next network call


class BasePipeline:
    """A model that draws. `Pipeline` adds the call and the other words of diffusers."""

    def __init__(
        self,
        model: Model,
        name: str = "",
        dtype: torch.dtype | str = AUTO,
        call_size: int | None = None,
        vocab: str | None = None,
        wrap: WrapNetwork | None = None,
        compiles: bool = False,
        owned: bool = False,
    ) -> None:
        """model: on its device already; it is put in eval mode and channels_last. name: for recipes.

        dtype: what the U-Net runs in (`glide.networks.reduced_precision`), "auto" for what is fast on the device
        (`glide.utils.dtype`); all else is float32. call_size: pictures in a network call, see
        glide/networks/fixed_batch.py; None: it follows the number of pictures of each run. vocab: for recipes, and for
        a weaker model that is a published .pt file. wrap: wraps the network, for example in tiles
        (upsampler/tiling.py). compiles: by torch.compile (glide/networks/compile.py). owned: nobody else uses the
        model, so its own weights may be rounded, and not a copy of them. InputError for a dtype or size that is not
        possible, or where nothing can be compiled.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"got {type(model).__name__} as the model of a Pipeline, expected a Model: load one by its name with "
                "Pipeline.from_pretrained"
            )
        self.made_by: partial[Any] = partial(
            type(self),
            model,
            name=name,
            dtype=dtype,
            call_size=call_size,
            vocab=vocab,
            wrap=wrap,
            compiles=compiles,
            owned=owned,
        )
        self.interrupts, self.active_features = Interrupts(), ActiveFeatures()
        self.progress_bar_config: dict[str, Any] = dict(BAR)
        size = None if call_size is None else _checked_call_size(call_size, model)
        kind = find_dtype(dtype, model.device)
        self.context = _ready(model, name, kind, size, vocab, wrap, compiles, owned)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = AUTO,
        call_size: int | None = None,
        vocab: str | None = None,
        wrap: WrapNetwork | None = None,
        places: Sequence[Path] = (),
        compiles: bool = False,
        revision: str | None = None,
        **unknown: Any,
    ) -> Self:
        """The model of that name: a folder, a .zip of one, an embedded or published model, a .pt file, or a hub id.

        revision: of a hub id, a branch, a tag or a commit; "org/name@revision" is the same.
        device: None is a GPU where there is one, else the CPU. dtype: auto, float32, bfloat16 or float16.
        vocab: for the captions of a .pt file, folder or hub id of its vocabulary; None is GLIDE's, from the hub.
        wrap, compiles: as for Pipeline. places: folders with further embedded models, which are looked through first.
        InputError if there is no such model, device, dtype or vocabulary.
        """
        dtype = unknown.pop("torch_dtype", dtype)
        if not isinstance(name, str | Path):
            raise InputError(f"got the model {name!r}, expected its name or folder: write 'shapes'")
        if unknown:
            refuse_unknown(unknown, inspect.signature(cls.from_pretrained).parameters, "from_pretrained")
        keywords: dict[str, Any] = {
            "device": device,
            "dtype": dtype,
            "call_size": call_size,
            "vocab": vocab,
            "wrap": wrap,
            "places": places,
            "compiles": compiles,
        }
        name = at_revision(os.path.expanduser(name), revision)
        place = find_device(device)
        found = find_dtype(dtype, place)  # before the wait for a large file
        with in_own_pages():
            model = load_with_vocabulary(name, place, vocab, places)
            pipe = cls(model, str(name), found, call_size, vocab, wrap, compiles, owned=True)
        pipe.made_by = partial(cls.from_pretrained, name, **keywords)
        return pipe

    @property
    def model(self) -> Model:
        """The model, in eval mode."""
        return self.context.model

    @property
    def unet(self) -> UNet:
        """Its U-Net in the number type that it runs in."""
        return self.context.unet

    @property
    def conditioner(self) -> Conditioner:
        """Encodes captions and classes."""
        return self.context.conditioner

    @property
    def guide_networks(self) -> GuideNetworks:
        """Loads and keeps the networks that guide."""
        return self.context.guide_networks

    @property
    def device(self) -> torch.device:
        return self.context.device

    @property
    def dtype(self) -> torch.dtype:
        """The number type that the U-Net runs in."""
        return self.context.dtype

    @property
    def call_size(self) -> int | None:
        """Pictures in one network call; None: chosen for each run."""
        return self.context.call_size

    @property
    def name(self) -> str:
        return self.context.name

    @property
    def fingerprint(self) -> str:
        """A fingerprint of the weights as they were read."""
        return self.context.fingerprint

    def for_run(self, pictures: int) -> Self:
        """This pipeline for a run of so many pictures: itself where its call size is given, else with the run's.

        It shares all networks. Draw every batch of a run by it, and ask it for their recipes.
        """
        if self.call_size is not None:
            return self
        run = object.__new__(type(self))
        run.__dict__.update(self.__dict__ | {"context": self.context.for_run(pictures)})
        return run

    def draw(
        self,
        pictures: Sequence[ImageRequest],
        settings: SamplingConfig,
        guidances: Sequence[Guidance] = (),
        place: int = 0,
        size: tuple[int, int] | None = None,
    ) -> Iterator[Step]:
        """The sampling loop over N pictures at once: yields after each of its `steps(settings)` steps.

        They are a run of their own, unless this is the pipeline of a larger one (`for_run`). guidances: further ones,
        for N rows or one. place: of the first picture in its network call, 0 to call_size - 1 (see
        glide/networks/fixed_batch.py). size: (H, W), by default the model's own. InputError, at once, for settings or
        pictures that do not fit.
        """
        settings = settings.settled(self.model.config)
        sampler = find_sampler(settings.sampler)
        watching = self.active_features.here
        loop = denoising_loop(self.context, pictures, settings, guidances, place, size, watching)
        process, rows = loop.process, loop.rows
        noise = SeededNoise([row.seed for row in rows])
        unit = noise.randn((self.model.config.unet.in_channels, *loop.size), self.device)
        unit = settings.temperature * unit
        x = begin(rows, process, unit, settings.strength).contiguous(memory_format=torch.channels_last)

        def steps_of(process: Process, x: Tensor) -> Iterator[Tensor]:
            variance = self.model.config.process.variance
            return sampler.run(process, loop.denoise, x, noise, eta=settings.eta, variance=variance)

        xs = steps_of(process, x)
        entries = repaint_schedule(len(process), settings.jump, settings.resamplings)
        if settings.resamplings > 1:
            if loop.known is None:
                raise InputError("got RePaint's resampling without known pixels, expected some: give a mask")
            xs = repaint(process, steps_of, x, noise, *loop.known, settings.jump, settings.resamplings)
        real = loop.padding.real
        return self.interrupts.until_asked(
            Step(
                index,
                int(process.timesteps[entry]),
                loop.pasted(x, index + 1 == len(entries))[real],
                loop.denoise.x0[real],
                loop.decode,
            )
            for index, (entry, x) in enumerate(zip(entries, xs, strict=True))
        )

    def loop(
        self,
        pictures: Sequence[ImageRequest],
        settings: SamplingConfig,
        guidances: Sequence[Guidance] = (),
    ) -> DenoisingLoop:
        """The state that a sampler, or an inversion, of N pictures works on; arguments and errors as `draw`."""
        watching = self.active_features.here
        return denoising_loop(self.context, pictures, settings, guidances, 0, None, watching)

    def process(self, settings: SamplingConfig) -> Process:
        """The process of a run: respaced, and without the noisiest part that its strength leaves out."""
        return respaced_process(self.model.process, settings.settled(self.model.config))

    def steps(self, settings: SamplingConfig) -> int:
        """Number of steps of a run with these settings. InputError for a respacing that does not fit."""
        return step_count(self.model.process, settings.settled(self.model.config))

    def recipe(self, picture: ImageRequest, settings: SamplingConfig, place: int) -> dict[str, Any]:
        """All that is needed to draw the picture again, JSON-able. place: its place in the run, counted as `draw`.

        By the pipeline of its run (`for_run`); by one without a call size it is that of a picture drawn alone.
        """
        settings = settings.settled(self.model.config)
        return recipe_of(self.context.for_run(1), picture, settings, place) | self.active_features.mark()

    def classes(self, settings: SamplingConfig) -> HasClasses:
        """The owner of the classes that labels name: the model, or without any the classifier that guides it."""
        return self.context.classes(settings.specs, settings.options)


def _checked_call_size(call_size: int, model: Model) -> int:
    """InputError for one that is no whole number from 1, or more than memory holds."""
    call_size = whole(call_size, "the call size", 1, do="leave it out for the default")
    unet, pixels = model.config.unet, math.prod(in_first_stage(model.config))
    # planes of float32 at the finest level, of which a block holds several at once
    check_memory(
        call_size * pixels * unet.channels * 4 * 4,
        f"the call size {call_size}",
        "give a smaller one, 8 is usual on a CPU",
    )
    return call_size


def _ready(
    model: Model,
    name: str,
    dtype: torch.dtype,
    call_size: int | None,
    vocab: str | None,
    wrap: WrapNetwork | None,
    compiles: bool,
    owned: bool,
) -> ModelContext:
    """The model in eval mode and channels_last, with its U-Net as fast as it gets; arguments as of `BasePipeline`."""
    weights = fingerprint(model)  # before they are rounded
    model = model.eval().requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    unet = (lower_ if owned else lowered)(model.unet, dtype)
    if not compiles and (owned or unet is not model.unet):
        pack_(unet)
    keep_freed_memory(model.device, CACHE_BYTES)
    return ModelContext(
        model=model,
        unet=unet,
        runner=compiled(unet) if compiles else unet,
        conditioner=Conditioner(model, unet),
        guide_networks=GuideNetworks(model.device, vocab, dtype),
        device=model.device,
        dtype=dtype,
        call_size=call_size,
        name=name,
        fingerprint=weights,
        vocab=vocab,
        wrap=wrap,
        compiled=compiles,
    )
