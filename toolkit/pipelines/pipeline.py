"""Pipeline: a model by name, ready to draw. `scripts/sample.py` and the Python face share its `draw`.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from glide.checkpoints.load import load_with_vocabulary
from glide.checkpoints.provenance import fingerprint
from glide.diffusion.denoiser import Network, Predict
from glide.diffusion.process import Process
from glide.diffusion.repaint import repaint, repaint_schedule
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.registry import find_sampler
from glide.diffusion.timestep_spacing import spaced
from glide.networks.compile import compiled
from glide.networks.conditioner import Conditioner
from glide.networks.cpu.allocator import in_own_pages, keep_freed_memory
from glide.networks.cpu.prepacked import pack_
from glide.networks.fixed_batch import call_size_of, default_call_size, network_of, predict_by
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_, lowered
from glide.utils.class_names import HasClasses
from glide.utils.device import find_device
from glide.utils.dtype import AUTO, find_dtype
from glide.utils.errors import InputError
from glide.utils.hub import at_revision
from glide.utils.memory import check_memory
from glide.utils.numbers import whole
from guidance.base import Guidance
from guidance.guide_networks import GuideNetworks
from toolkit.pipelines.call import call
from toolkit.pipelines.callbacks import Interrupts
from toolkit.pipelines.denoising_loop import Loop, Seen, loop_of
from toolkit.pipelines.keyword_arguments import refuse_part, refuse_unknown
from toolkit.pipelines.known_pixels import begin
from toolkit.pipelines.output import Result, Step
from toolkit.pipelines.recipe import recipe_of
from toolkit.pipelines.save import Make, push_to_hub, rebuilt, save_pretrained, to
from toolkit.pipelines.settings import SamplingConfig

Around = Callable[[Network, Model], Network]
"""From a network, and the model whose it is, to one that is called in its place."""

__all__ = ["Pipeline", "Result", "Step"]

BAR = {"unit": "step", "desc": "drawing"}
CACHE_BYTES = 2**28  # bytes of freed memory, for the activations of the next network call


class Pipeline:
    """A model that draws.

    pipe = Pipeline.from_pretrained("shapes")
    pipe("a red ring", guidance_scale=3.0, seed=0).images[0].save("ring.png")

    Its methods and their arguments have the names that they have in diffusers. Threads may share one.
    """

    __call__ = call
    to = to
    save_pretrained = save_pretrained
    push_to_hub = push_to_hub

    def __init__(
        self,
        model: Model,
        name: str = "",
        dtype: torch.dtype | str = AUTO,
        call_size: int | None = None,
        vocab: str | None = None,
        around: Around | None = None,
        compiles: bool = False,
        owned: bool = False,
    ) -> None:
        """model: on its device already; it is put in eval mode and channels_last. name: for recipes.

        dtype: what the U-Net runs in (`glide.networks.reduced_precision`), "auto" for what is fast on the device
        (`glide.utils.dtype`); all else is float32. call_size: pictures in a network call, see
        glide/networks/fixed_batch.py; None: it follows the number of pictures of each run. vocab: for recipes, and for
        a weaker model that is a published .pt file. around: put around the network, as upsampler/tiling.py is.
        compiles: by torch.compile (glide/networks/compile.py). owned: nobody else uses the model, so its own weights
        may be rounded, and not a copy of them. InputError for a dtype or size that is not possible, or where nothing
        can be compiled.
        """
        if not isinstance(model, Model):
            raise InputError(
                f"got {type(model).__name__} as the model of a Pipeline, expected a Model: load one by its name with "
                "Pipeline.from_pretrained"
            )
        self.made_by: Make = partial(
            type(self),
            model,
            name=name,
            dtype=dtype,
            call_size=call_size,
            vocab=vocab,
            around=around,
            compiles=compiles,
            owned=owned,
        )
        self.interrupts = Interrupts()
        self.progress_bar_config: dict[str, Any] = dict(BAR)
        self.device = model.device
        self.dtype = find_dtype(dtype, self.device)
        self.call_size = None if call_size is None else _checked_call_size(call_size, model)
        self.name, self.vocab = name, vocab
        self.fingerprint = fingerprint(model)
        self.model = model.eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.unet = (lower_ if owned else lowered)(model.unet, self.dtype)
        if not compiles and (owned or self.unet is not model.unet):
            pack_(self.unet)
        keep_freed_memory(self.device, CACHE_BYTES)
        self.conditions = Conditioner(model, self.unet)
        self.guides = GuideNetworks(self.device, vocab, self.dtype)
        self._around: Around = around or (lambda network, model: network)
        self.compiles = compiles
        self.runner = compiled(self.unet) if compiles else self.unet
        self.network = self._around(network_of(self.runner), model)
        self.predict = predict_by(self.network, model, self.call_size)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = AUTO,
        call_size: int | None = None,
        vocab: str | None = None,
        around: Around | None = None,
        places: Sequence[Path] = (),
        compiles: bool = False,
        revision: str | None = None,
        **unknown: Any,
    ) -> Pipeline:
        """The model of that name: a folder, an embedded model, a published OpenAI .pt file, or a hub id.

        revision: of a hub id, a branch, a tag or a commit; "org/name@revision" is the same.
        device: None is a GPU where there is one, else the CPU. dtype: auto, float32, bfloat16 or float16.
        vocab: for the captions of a .pt file, folder or hub id of its vocabulary; None is GLIDE's, from the hub.
        around, compiles: as for Pipeline. places: folders with further embedded models, which are looked through first.
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
            "around": around,
            "places": places,
            "compiles": compiles,
        }
        name = at_revision(os.path.expanduser(name), revision)
        place = find_device(device)
        found = find_dtype(dtype, place)  # before the wait for a large file
        with in_own_pages():
            model = load_with_vocabulary(name, place, vocab, places)
            pipe = cls(model, str(name), found, call_size, vocab, around, compiles, owned=True)
        pipe.made_by = partial(cls.from_pretrained, name, **keywords)
        return pipe

    def for_run(self, pictures: int) -> Pipeline:
        """This pipeline for a run of so many pictures: itself where its call size is given, else with the run's.

        It shares all networks. Draw every batch of a run by it, and ask it for their recipes.
        """
        if self.call_size is not None:
            return self
        run = object.__new__(type(self))
        run.__dict__.update(self.__dict__)
        run.call_size = call_size_of(pictures, default_call_size(self.model, self.device))
        run.predict = predict_by(run.network, run.model, run.call_size)
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
        sampler = find_sampler(settings.sampler)
        loop = self.loop(pictures, settings, guidances, place, size)
        process, rows = loop.process, loop.rows
        noise = SeededNoise([row.seed for row in rows])
        unit = noise.randn((self.model.config.unet.in_channels, *loop.size), self.device)
        unit = settings.temperature * unit
        x = begin(rows, process, unit, settings.strength).contiguous(memory_format=torch.channels_last)
        seen = Seen(loop.denoise)

        def steps_of(process: Process, x: Tensor) -> Iterator[Tensor]:
            variance = self.model.config.process.variance
            return sampler.run(process, seen, x, noise, eta=settings.eta, variance=variance)

        xs = steps_of(process, x)
        entries = repaint_schedule(len(process), settings.jump, settings.resamplings)
        if settings.resamplings > 1:
            if loop.known is None:
                raise InputError("got RePaint's resampling without known pixels, expected some: give a mask")
            xs = repaint(process, steps_of, x, noise, *loop.known, settings.jump, settings.resamplings)
        real = loop.places.real
        return self.interrupts.until_asked(
            Step(
                index,
                int(process.timesteps[entry]),
                loop.pasted(x, index + 1 == len(entries))[real],
                seen.x0[real],
            )
            for index, (entry, x) in enumerate(zip(entries, xs, strict=True))
        )

    def loop(
        self,
        pictures: Sequence[ImageRequest],
        settings: SamplingConfig,
        guidances: Sequence[Guidance] = (),
        place: int = 0,
        size: tuple[int, int] | None = None,
    ) -> Loop:
        """What a sampler, or an inversion, of N pictures walks on; arguments and errors as `draw`."""
        return loop_of(self, pictures, settings, guidances, place, size)

    def predict_by(self, unet: Network) -> Predict:
        """By what stands for the U-Net: in calls of the same size, with the same around it."""
        return predict_by(self._around(network_of(unet), self.model), self.model, self.call_size)

    def process(self, settings: SamplingConfig) -> Process:
        """The process that a run walks down: respaced, and without the noisiest part that its strength leaves out."""
        whole, strength = self.model.process, settings.strength
        kept = spaced(whole, settings.respacing, settings.spaced)
        most = max(math.ceil(strength * len(whole)), 1)  # timesteps below the strength
        below = [t for t in kept if t < strength * len(whole)] or [min(kept[0], most - 1)]
        if strength < 1.0 and settings.spaced != "uniform":
            # uneven steps may be far apart there: as many begin at that very strength
            part = whole.respaced(range(most))
            below = spaced(part, str(len(below)), settings.spaced)
        return whole.respaced(below)

    def set_progress_bar_config(self, **config: Any) -> None:
        """Set arguments of the bars that calls show, which are tqdm's: disable=True for none."""
        self.progress_bar_config = BAR | config

    @property
    def interrupt(self) -> bool:
        """True once a callback, or another thread, has set `_interrupt`: the run stops after this step."""
        return self.interrupts.asked

    @property
    def _interrupt(self) -> bool:
        return self.interrupts.asked

    @_interrupt.setter
    def _interrupt(self, stop: bool) -> None:
        self.interrupts.ask(stop)

    def __getattr__(self, name: str) -> Any:
        raise refuse_part(name)

    @property
    def scheduler(self) -> Any:
        """Always an error that says how to choose a solver: setting diffusers' attribute would change nothing here."""
        raise refuse_part("scheduler")

    @scheduler.setter
    def scheduler(self, scheduler: object) -> None:
        raise refuse_part("scheduler")

    def __reduce__(self) -> tuple[Any, ...]:
        """Copied and pickled as the call by which it was made: an unpickled one reads its model again."""
        return rebuilt, (self.made_by, self.fingerprint, self.progress_bar_config)

    def __repr__(self) -> str:
        side, dtype = self.model.config.unet.image_size, str(self.dtype).removeprefix("torch.")
        return f"Pipeline({self.name!r}, {side}x{side}, {self.device}, {dtype})"

    def steps(self, settings: SamplingConfig) -> int:
        """How many steps a run with these settings takes. InputError for a respacing that does not fit."""
        return len(repaint_schedule(len(self.process(settings)), settings.jump, settings.resamplings))

    def recipe(self, picture: ImageRequest, settings: SamplingConfig, place: int) -> dict[str, Any]:
        """All that is needed to draw the picture again, JSON-able. place: its place in the run, counted as `draw`.

        By the pipeline of its run (`for_run`); by one without a call size it is that of a picture drawn alone.
        """
        return recipe_of(self.for_run(1), picture, settings, place)

    def classes(self, settings: SamplingConfig) -> HasClasses:
        """Whose classes a label is of: the model's, or, where it has none, those of the classifier that guides it."""
        config = self.model.config
        if not config.num_classes and any(term.name == "classifier" for term in settings.terms):
            return self.guides.classifier(settings.options).config
        return config


def _checked_call_size(call_size: int, model: Model) -> int:
    """InputError for one that is no whole number from 1, or more than memory holds."""
    call_size = whole(call_size, "the call size", 1, do="leave it out for the default")
    unet = model.config.unet
    # planes of float32 at the finest level, of which a block holds several at once
    check_memory(
        call_size * unet.image_size**2 * unet.channels * 4 * 4,
        f"the call size {call_size}",
        "give a smaller one, 8 is usual on a CPU",
    )
    return call_size
