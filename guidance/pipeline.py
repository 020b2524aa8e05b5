"""Pipeline: a model by name, ready to draw. `scripts/sample.py` and the Python face share its `draw`.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glide.checkpoint import load_model
from glide.classes import class_number
from glide.conditioning import Cond
from glide.denoise import Denoiser, Network, Prediction, clamp, predictor, project
from glide.errors import InputError
from glide.images import to_uint8
from glide.model import Model
from glide.process import respacing
from glide.recipe import environment, fingerprint
from glide.samplers import SeededNoise
from guidance.calls import OnlyReal, Places, default_call_size, in_calls
from guidance.compose import Guidance, guide
from guidance.conditions import Conditions, Picture
from guidance.registry import GUIDANCES, SAMPLERS, Subject, choose
from guidance.settings import Settings, spec_of_steps

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

Callback = Callable[[int, int, Tensor], object]
"""Called after each step with its index from 0, its training timestep, and x [N,C,H,W]."""


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
        dtype: torch.dtype | str = torch.float32,
        call_size: int | None = None,
    ) -> None:
        """model: on its device already; it is put in eval mode and channels_last. name: for recipes.

        dtype: what the U-Net runs in (autocast); all else is float32. call_size: pictures in a network call, see
        guidance/calls.py. InputError for a dtype or size that is not possible.
        """
        self.dtype = _dtype(dtype)
        self.device = model.device
        if call_size is not None and call_size < 1:
            raise InputError(
                f"got the call size {call_size}, expected at least 1: leave it out for the default"
            )
        self.call_size = call_size or default_call_size(model, self.device)
        self.name = name
        self.fingerprint = fingerprint(model)
        self.model = model.eval().requires_grad_(False)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.conditions = Conditions(model)
        self._predict = predictor(self._network(), model.process, model.config.process.prediction)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        device: str | torch.device | None = None,
        dtype: torch.dtype | str = torch.float32,
        call_size: int | None = None,
    ) -> Pipeline:
        """The model of that name: a folder, an embedded model, a published OpenAI .pt file, or a hub id.

        device: None is a GPU where there is one, else the CPU. dtype: float32, bfloat16 or float16.
        InputError if there is no such model, device or dtype.
        """
        place, dtype = find_device(device), _dtype(dtype)  # before the wait for a large file
        return cls(load_model(name, place), str(name), dtype, call_size)

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        *,
        label: str | int | Sequence[str | int] | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | str = 50,
        num_images_per_prompt: int = 1,
        sampler: str = "ddim",
        eta: float = 0.0,
        seed: int | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        guidances: Sequence[Guidance] = (),
        callback_on_step_end: Callback | None = None,
    ) -> Result:
        """Draw `num_images_per_prompt` pictures of each prompt or label, those of one prompt next to each other.

        label: class numbers or names, for class-conditional models. guidance_scale: of classifier-free guidance; 1
        is none; by default 3 where the model has a null condition. num_inference_steps: a number, or a respacing
        ("fast27", "ddim50", "10,10,3,2,2"). sampler: "ddim" or "ddpm". eta: DDIM's noise, 0 to 1.
        seed: picture i has the seed `seed + i`. generator: instead, one for all pictures, or one for each, from which
        their seeds are drawn; without either they come from torch's global generator. guidances: further ones, made
        for as many rows as there are pictures, or for one. InputError for whatever does not fit.
        """
        subjects = self._subjects(prompt, label)
        if num_images_per_prompt < 1:
            raise InputError(
                f"got {num_images_per_prompt} images per prompt, expected at least 1: leave it out for 1"
            )
        subjects = [subject for subject in subjects for _ in range(num_images_per_prompt)]
        seeds = _seeds(len(subjects), seed, generator)
        pictures = [Picture(s, caption, number) for s, (caption, number) in zip(seeds, subjects, strict=True)]
        if guidance_scale is None:
            guidance_scale = 3.0 if self.conditions.has_null else 1.0
        spec = num_inference_steps
        settings = Settings(
            sampler,
            spec_of_steps(spec) if isinstance(spec, int) else spec,
            eta,
            "none" if guidance_scale == 1.0 else "cfg",
            guidance_scale,
        )
        for step in self.draw(pictures, settings, guidances):
            if callback_on_step_end is not None:
                callback_on_step_end(step.index, step.t, step.x)
        recipes = [self.recipe(picture, settings, place) for place, picture in enumerate(pictures)]
        images = [Image.fromarray(pixels.numpy()) for pixels in to_uint8(step.x)]
        return Result(images, step.x.cpu().contiguous(), recipes)

    def draw(
        self,
        pictures: Sequence[Picture],
        settings: Settings,
        guidances: Sequence[Guidance] = (),
        place: int = 0,
    ) -> Iterator[Step]:
        """The sampling loop over N pictures at once: yields after each of its `steps(settings)` steps.

        guidances: further ones, for N rows or one. place: of the first picture in its network call, 0 to
        call_size - 1 (see guidance/calls.py). InputError, at once, for settings or pictures that do not fit.
        """
        if not pictures:
            raise InputError("got no picture to draw, expected at least one: give a prompt")
        run = choose("sampler", settings.sampler, SAMPLERS)
        make_guidances = choose("guidance", settings.guidance, GUIDANCES)
        model = self.model
        process = model.process.respaced(respacing(settings.respacing, len(model.process)))
        places = Places.of(len(pictures), place % self.call_size, self.call_size)
        rows = [pictures[0]] * places.front + list(pictures) + [pictures[-1]] * places.back
        all_guidances = [
            *make_guidances(Subject(rows, self.conditions), settings.scale),
            *(OnlyReal(guidance, places) for guidance in guidances),
        ]
        cond = self.conditions.of(rows)
        steered = guide(in_calls(self._predict, self.call_size), cond, all_guidances)
        seen = _Seen(project(steered, clamp))
        noise = SeededNoise([row.seed for row in rows])
        size = model.config.unet.image_size
        x = noise.randn((model.config.unet.in_channels, size, size), self.device)
        x = x.contiguous(memory_format=torch.channels_last)
        xs = run(process, seen, x, noise, eta=settings.eta, variance=model.config.process.variance)
        timesteps = reversed(process.timesteps.tolist())
        return (
            Step(index, t, x[places.real], seen.x0[places.real])
            for index, (t, x) in enumerate(zip(timesteps, xs, strict=True))
        )

    def steps(self, settings: Settings) -> int:
        """How many steps a run with these settings takes. InputError for a respacing that does not fit."""
        return len(respacing(settings.respacing, len(self.model.process)))

    def recipe(self, picture: Picture, settings: Settings, place: int) -> dict[str, Any]:
        """All that is needed to draw the picture again, JSON-able. place: its place in the run, counted as `draw`."""
        found: dict[str, Any] = {"model": self.name, "weights": self.fingerprint}
        config = self.model.config
        if config.text is not None:
            found["prompt"] = picture.caption
        if config.num_classes:
            found["label"] = picture.label
            if config.class_names and picture.label is not None:
                found["class"] = config.class_names[picture.label]
        found |= {"seed": picture.seed, "sampler": settings.sampler, "respacing": settings.respacing}
        found |= {"steps": self.steps(settings), "eta": settings.eta}
        found |= {"guidance": settings.guidance, "scale": settings.scale}
        found |= {"dtype": str(self.dtype).removeprefix("torch.")}
        found |= {"call_size": self.call_size, "place": place % self.call_size}
        return found | environment(self.device)

    def _network(self) -> Network:
        def network(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
            half = self.dtype != torch.float32
            with torch.autocast(self.device.type, self.dtype) if half else nullcontext():
                return self.model.unet(x.contiguous(memory_format=torch.channels_last), t, cond)

        return network

    def _subjects(
        self, prompt: str | Sequence[str] | None, label: str | int | Sequence[str | int] | None
    ) -> list[tuple[str, int | None]]:
        """Captions and class numbers, one pair for each picture."""
        config = self.model.config
        prompts = [prompt] if isinstance(prompt, str) else list(prompt or ())
        labels = [label] if isinstance(label, str | int) else list(label or ())
        if config.text is not None and not prompts:
            raise InputError("got no prompt for a model that draws captions, expected one: give a prompt")
        numbers: list[int | None] = [class_number(config, name) for name in labels]
        if prompts and numbers and len(prompts) != len(numbers):
            raise InputError(
                f"got {len(prompts)} prompts and {len(numbers)} labels, expected as many of each"
            )
        count = max(len(prompts), len(numbers), 1)
        return list(zip(prompts or [""] * count, numbers or [None] * count, strict=True))


class _Seen:
    """A denoiser that remembers its last x0."""

    x0: Tensor

    def __init__(self, denoise: Denoiser) -> None:
        self.denoise = denoise

    def __call__(self, x: Tensor, t: int) -> Prediction:
        prediction = self.denoise(x, t)
        self.x0 = prediction.x0
        return prediction


def find_device(device: str | torch.device | None) -> torch.device:
    """None or "auto": a GPU where there is one, else the CPU. InputError for one that is not there."""
    if device in (None, "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"got the device {str(device)!r}, which cannot be used here: try cpu") from error
    return found


def _dtype(dtype: torch.dtype | str) -> torch.dtype:
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(f"got the dtype {name!r}, expected {' or '.join(DTYPES)}: choose one of these")
    return DTYPES[name]


def _seeds(
    count: int, seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None
) -> list[int]:
    if seed is not None:
        if generator is not None:
            raise InputError("got a seed and a generator, expected one of them: leave one out")
        if not 0 <= seed < 2**63:
            raise InputError(f"got the seed {seed}, expected 0 to 2**63 - 1: give a number in that range")
        return [seed + i for i in range(count)]
    if generator is None or isinstance(generator, torch.Generator):
        return [_draw_seed(generator) for _ in range(count)]
    if len(generator) != count:
        raise InputError(f"got {len(generator)} generators for {count} pictures, expected one for each")
    return [_draw_seed(one) for one in generator]


def _draw_seed(generator: torch.Generator | None) -> int:
    device = generator.device if generator is not None else "cpu"
    return int(torch.randint(2**53, (), generator=generator, device=device))
