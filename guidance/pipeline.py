"""Pipeline: a model by name, ready to draw. `scripts/sample.py` and the Python face share its `draw`.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glide.classes import HasClasses, class_number
from glide.compiled import compiled
from glide.denoise import Network, Predict
from glide.dtype import AUTO, find_dtype
from glide.errors import InputError
from glide.images import as_image, to_uint8
from glide.machine import in_own_pages, keep_freed_memory
from glide.memory import check_memory
from glide.model import Model
from glide.packed import pack_
from glide.precision import lower_, lowered
from glide.process import Process
from glide.recipe import fingerprint
from glide.repaint import repaint, walk
from glide.samplers import SeededNoise
from glide.spacing import spaced
from guidance.calls import call_size_of, default_call_size, network_of, predict_by
from guidance.compose import Guidance
from guidance.conditions import NOTHING_GIVEN, Conditions, Given, Picture
from guidance.given import begin
from guidance.guides import Guides
from guidance.loop import Loop, Seen, loop_of
from guidance.names import check_read
from guidance.options import USUAL, Options
from guidance.recipe import recipe_of
from guidance.registry import SAMPLERS, choose
from guidance.runtime import find_device, find_seeds
from guidance.settings import Settings, spec_of_steps
from guidance.solver_names import USUAL_SAMPLER, USUAL_STEPS
from guidance.start import start_of
from guidance.vocabulary import load_with_vocabulary

Around = Callable[[Network, Model], Network]
"""From a network, and the model whose it is, to one that is called in its place."""

Callback = Callable[[int, int, Tensor], object]
"""Called after each step with its index from 0, its training timestep, and x [N,C,H,W]."""

KEPT = 2**28  # bytes of freed memory, for the activations of the next network call


@dataclass(frozen=True)
class Step:
    """Where a run stands after one step of the sampler."""

    index: int  # from 0
    t: int  # the training timestep that was denoised
    x: Tensor  # [N,C,H,W] float32, on the model's device
    x0: Tensor  # [N,C,H,W] what the model took the picture to be, from -1 to 1


@dataclass(frozen=True)
class Result:
    """N pictures."""

    images: list[Image.Image]
    tensors: Tensor  # [N,C,H,W] float32 on the CPU, nominally from -1 to 1
    recipes: list[dict[str, Any]]  # what each needs to be drawn again; `recipe["seed"]` is its seed


class Pipeline:
    """A model that draws.

    pipe = Pipeline.from_pretrained("shapes")
    pipe("a red ring", guidance_scale=3.0, seed=0).images[0].save("ring.png")
    """

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

        dtype: what the U-Net runs in (`glide.precision`), "auto" for what is fast on the device (`glide.dtype`); all
        else is float32. call_size: pictures in a network call, see guidance/calls.py; None: it follows the number of
        pictures of each run. vocab: for recipes, and for a weaker model that is a published .pt file. around: put
        around the network, as upsampler/tiles.py is. compiles: by torch.compile (glide/compiled.py). owned: nobody else
        uses the model, so its own weights may be rounded, and not a copy of them. InputError for a dtype or size that
        is not possible, or where nothing can be compiled.
        """
        self.device = model.device
        self.dtype = find_dtype(dtype, self.device)
        if call_size is not None and call_size < 1:
            raise InputError(
                f"got the call size {call_size}, expected at least 1: leave it out for the default"
            )
        if call_size is not None:
            unet = model.config.unet
            # planes of float32 at the finest level, of which a block holds several at once
            check_memory(
                call_size * unet.image_size**2 * unet.channels * 4 * 4,
                f"the call size {call_size}",
                "give a smaller one, 8 is usual on a CPU",
            )
        self.call_size = call_size
        self.name, self.vocab = name, vocab
        self.fingerprint = fingerprint(model)
        self.model = model.eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.unet = (lower_ if owned else lowered)(model.unet, self.dtype)
        if not compiles and (owned or self.unet is not model.unet):
            pack_(self.unet)
        keep_freed_memory(self.device, KEPT)
        self.conditions = Conditions(model, self.unet)
        self.guides = Guides(self.device, vocab, self.dtype)
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
    ) -> Pipeline:
        """The model of that name: a folder, an embedded model, a published OpenAI .pt file, or a hub id.

        device: None is a GPU where there is one, else the CPU. dtype: auto, float32, bfloat16 or float16.
        vocab: for the captions of a .pt file, folder or hub id of its vocabulary; None is GLIDE's, from the hub.
        around, compiles: as for Pipeline. places: folders with further embedded models, which are looked through first.
        InputError if there is no such model, device, dtype or vocabulary.
        """
        place = find_device(device)
        dtype = find_dtype(dtype, place)  # before the wait for a large file
        with in_own_pages():
            model = load_with_vocabulary(name, place, vocab, places)
            return cls(model, str(name), dtype, call_size, vocab, around, compiles, owned=True)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        label: str | int | Sequence[str | int] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | str = USUAL_STEPS,
        num_images_per_prompt: int = 1,
        sampler: str = USUAL_SAMPLER,
        spacing: str | None = None,
        eta: float = 0.0,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        guidances: Sequence[Guidance | str] = (),
        options: Options = USUAL,
        init_image: Image.Image | None = None,
        strength: float = 0.6,
        callback_on_step_end: Callback | None = None,
    ) -> Result:
        """Draw `num_images_per_prompt` pictures of each prompt or label, those of one prompt next to each other.

        label: class numbers or names, for class-conditional models. guidance_scale: of classifier-free guidance; 1
        is none; by default 3 where the model has a null condition and no guidance is asked for by name.
        num_inference_steps: a number, or a respacing ("fast27", "ddim50", "10,10,3,2,2"). sampler, spacing: a name of
        `guidance.solver_names`; spacing says where a number of steps lie. eta: DDIM's noise, 0 to 1. seed: picture i
        has the seed `seed + i`. generator: instead, one for all pictures, or one for each, from which their seeds are
        drawn; without either they come from torch's global generator. guidances: further ones, by name as on the
        command line ("pag:2", "clip:50@0-800"), or objects, made for as many rows as there are pictures, or for one;
        recipes tell of names only. options: of the guidances that are asked for by name, and for all. init_image: what
        all of them begin with (its middle square), noised as far as strength says, above 0 (it stays) to 1 (nothing of
        it is left). InputError for whatever does not fit.
        """
        names = [guidance for guidance in guidances if isinstance(guidance, str)]
        if guidance_scale is None:
            guided = not names and (self.conditions.has_null or options.negative is not None)
            guidance_scale = 3.0 if guided else 1.0
        chosen: str | tuple[str, ...] = "none" if guidance_scale == 1.0 else "cfg"
        if names:
            chosen = (*([] if guidance_scale == 1.0 else [f"cfg:{guidance_scale!r}"]), *names)
        spec = num_inference_steps
        settings = Settings(
            sampler,
            spec_of_steps(spec) if isinstance(spec, int) else spec,
            eta,
            chosen,
            None if names else guidance_scale,
            options,
            strength=1.0 if init_image is None else strength,
            spacing=spacing,
        )
        check_read(settings.terms, options)
        subjects = self._subjects(prompt, label, settings)
        if num_images_per_prompt < 1:
            raise InputError(
                f"got {num_images_per_prompt} images per prompt, expected at least 1: leave it out for 1"
            )
        subjects = [subject for subject in subjects for _ in range(num_images_per_prompt)]
        seeds = find_seeds(len(subjects), seed, generator)
        given = NOTHING_GIVEN if init_image is None else Given(start=start_of(init_image, self.model))
        pictures = [Picture(s, *subject, given) for s, subject in zip(seeds, subjects, strict=True)]
        objects = [guidance for guidance in guidances if not isinstance(guidance, str)]
        run = self.for_run(len(pictures))
        for step in run.draw(pictures, settings, objects):
            if callback_on_step_end is not None:
                callback_on_step_end(step.index, step.t, step.x)
        recipes = [run.recipe(picture, settings, place) for place, picture in enumerate(pictures)]
        images = [as_image(pixels) for pixels in to_uint8(step.x)]
        return Result(images, step.x.cpu().contiguous(), recipes)

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
        pictures: Sequence[Picture],
        settings: Settings,
        guidances: Sequence[Guidance] = (),
        place: int = 0,
        size: tuple[int, int] | None = None,
    ) -> Iterator[Step]:
        """The sampling loop over N pictures at once: yields after each of its `steps(settings)` steps.

        They are a run of their own, unless this is the pipeline of a larger one (`for_run`). guidances: further ones,
        for N rows or one. place: of the first picture in its network call, 0 to call_size - 1 (see guidance/calls.py).
        size: (H, W), by default the model's own. InputError, at once, for
        settings or pictures that do not fit.
        """
        run = choose("sampler", settings.sampler, SAMPLERS)
        loop = self.loop(pictures, settings, guidances, place, size)
        process, rows = loop.process, loop.rows
        noise = SeededNoise([row.seed for row in rows])
        unit = noise.randn((self.model.config.unet.in_channels, *loop.size), self.device)
        unit = settings.temperature * unit
        x = begin(rows, process, unit, settings.strength).contiguous(memory_format=torch.channels_last)
        seen = Seen(loop.denoise)

        def steps_of(process: Process, x: Tensor) -> Iterator[Tensor]:
            variance = self.model.config.process.variance
            return run(process, seen, x, noise, eta=settings.eta, variance=variance)

        xs = steps_of(process, x)
        entries = walk(len(process), settings.jump, settings.resamplings)
        if settings.resamplings > 1:
            if loop.known is None:
                raise InputError("got RePaint's resampling without known pixels, expected some: give a mask")
            xs = repaint(process, steps_of, x, noise, *loop.known, settings.jump, settings.resamplings)
        real = loop.places.real
        return (
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
        pictures: Sequence[Picture],
        settings: Settings,
        guidances: Sequence[Guidance] = (),
        place: int = 0,
        size: tuple[int, int] | None = None,
    ) -> Loop:
        """What a sampler, or an inversion, of N pictures walks on; arguments and errors as `draw`."""
        return loop_of(self, pictures, settings, guidances, place, size)

    def predict_by(self, unet: Network) -> Predict:
        """By what stands for the U-Net: in calls of the same size, with the same around it."""
        return predict_by(self._around(network_of(unet), self.model), self.model, self.call_size)

    def process(self, settings: Settings) -> Process:
        """The process that a run walks down: respaced, and without the noisiest part that its strength leaves out."""
        whole, strength = self.model.process, settings.strength
        kept = spaced(whole, settings.respacing, settings.spaced)
        below = [t for t in kept if t < strength * len(whole)] or kept[:1]
        if strength < 1.0 and settings.spaced != "uniform":
            # uneven steps may be far apart there: as many begin at that very strength
            part = whole.respaced(range(math.ceil(strength * len(whole))))
            below = spaced(part, str(len(below)), settings.spaced)
        return whole.respaced(below)

    def steps(self, settings: Settings) -> int:
        """How many steps a run with these settings takes. InputError for a respacing that does not fit."""
        return len(walk(len(self.process(settings)), settings.jump, settings.resamplings))

    def recipe(self, picture: Picture, settings: Settings, place: int) -> dict[str, Any]:
        """All that is needed to draw the picture again, JSON-able. place: its place in the run, counted as `draw`.

        By the pipeline of its run (`for_run`); by one without a call size it is that of a picture drawn alone.
        """
        return recipe_of(self.for_run(1), picture, settings, place)

    def classes(self, settings: Settings) -> HasClasses:
        """Whose classes a label is of: the model's, or, where it has none, those of the classifier that guides it."""
        config = self.model.config
        if not config.num_classes and any(term.name == "classifier" for term in settings.terms):
            return self.guides.classifier(settings.options).config
        return config

    def _subjects(
        self,
        prompt: str | Sequence[str] | None,
        label: str | int | Sequence[str | int] | None,
        settings: Settings,
    ) -> list[tuple[str, int | None]]:
        """Captions and class numbers, one pair for each picture."""
        prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
        labels = [label] if isinstance(label, str | int) else list(label or ())
        config = self.model.config
        of_guide = (
            bool(labels) and not config.num_classes
        )  # then the classifier says what to draw, and no caption
        if config.text is not None and not prompts and not of_guide:
            raise InputError("got no prompt for a model that draws captions, expected one: give a prompt")
        classes = self.classes(settings)
        numbers: list[int | None] = [class_number(classes, name) for name in labels]
        if prompts and numbers and len(prompts) != len(numbers):
            raise InputError(
                f"got {len(prompts)} prompts and {len(numbers)} labels, expected as many of each"
            )
        count = max(len(prompts), len(numbers), 1)
        return list(zip(prompts or [""] * count, numbers or [None] * count, strict=True))
