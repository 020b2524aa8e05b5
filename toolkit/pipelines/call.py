"""`Pipeline.__call__`: what Python asks for, checked and brought to the terms of `Pipeline.draw`.

Arguments have the names and the meaning that they have in diffusers. Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from glide.diffusion.samplers.registry import OWN
from glide.networks.image_request import ImageRequest
from glide.networks.picture_sizes import default_size, in_first_stage, size_to_draw
from glide.networks.prior import Prior
from glide.utils.errors import InputError
from glide.utils.numbers import real, shown_number
from glide.utils.picture_size import SIDE, Size
from guidance.base import Guidance
from guidance.options import DEFAULT_OPTIONS, Options
from guidance.registry import check_read, named
from guidance.spec import check_scale, with_strength
from toolkit.pipelines.base import BasePipeline
from toolkit.pipelines.callbacks import Callback, Watch
from toolkit.pipelines.conditions import read_conditions, with_conditions, with_entries
from toolkit.pipelines.image_arguments import Read, read_pictures
from toolkit.pipelines.image_embeddings import entries_of, read_embeddings, with_embeddings
from toolkit.pipelines.image_to_image import init_image_of
from toolkit.pipelines.inpaint_call import painted
from toolkit.pipelines.keyword_arguments import refuse_unknown
from toolkit.pipelines.output import Result, Step, as_output, check_output_type
from toolkit.pipelines.requests import requests, several
from toolkit.pipelines.settings import SamplingConfig, respacing_of

Pictured = str | Image.Image | Tensor | Any
"""A picture in Python: a path, PIL, an array or a tensor (toolkit/pipelines/image_arguments.py), or several."""
USUAL_STRENGTH = 0.6  # of a run that begins with a picture


def call(
    self: BasePipeline,
    prompt: str | Sequence[str] | None = None,
    *nameless: Any,
    negative_prompt: str | Sequence[str] | None = None,
    label: str | int | Sequence[str | int] | None = None,
    guidance_scale: float | Callable[[float], float] | None = None,
    num_inference_steps: int | str | None = None,
    num_images_per_prompt: int = 1,
    sampler: str = OWN,
    spacing: str | None = None,
    eta: float = 0.0,
    seed: int | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    latents: Tensor | None = None,
    guidances: Guidance | str | Sequence[Guidance | str] = (),
    options: Options = DEFAULT_OPTIONS,
    image: Pictured | None = None,
    init_image: Pictured | None = None,
    mask_image: Pictured | None = None,
    strength: float | None = None,
    condition: Pictured | Mapping[str, Pictured] | None = None,
    like_image: Pictured | None = None,
    image_embedding: Tensor | None = None,
    prior: str | Path | Prior | None = None,
    height: int | None = None,
    width: int | None = None,
    output_type: str = "pil",
    return_dict: bool = True,
    callback_on_step_end: Callback | None = None,
    callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    **unknown: Any,
) -> Any:
    """Draw `num_images_per_prompt` pictures of each prompt or label, those of one prompt next to each other."""
    _check_names(nameless, unknown)
    check_output_type(output_type, self.model.config.first_stage is not None and mask_image is None)
    size = _size_of(self, height, width, mask_image is not None)
    starts = _init_images(image, init_image)
    options = _with_negative(options, negative_prompt)
    shown = (like_image, image_embedding, prior)
    prompt, guidance_scale = _words(self, prompt, guidance_scale, shown)
    names, objects = _guidances(guidances)
    steps = respacing_of(num_inference_steps)
    guided = _guidance_and_scale(self, guidance_scale, names, options)
    share = _strength(strength, bool(starts), mask_image is not None)
    kept: dict[str, Any] = {"strength": share, "spacing": spacing, "size": size}
    settings = SamplingConfig(sampler, steps, eta, *guided, options, **kept)
    check_read(settings.specs, options.given())
    pictures = requests(self, prompt, label, settings, num_images_per_prompt, seed, generator)
    pictures, marks = _conditioned(self, pictures, condition, shown, size)
    watch = Watch(self, callback_on_step_end, callback_on_step_end_tensor_inputs)
    if mask_image is None:
        last, recipes = _drawn(self, pictures, settings, objects, watch, starts, latents)
        x = last.x.cpu().contiguous()
    else:
        _check_by_name(objects, latents, condition)
        x, recipes = painted(self, pictures, settings, watch, starts, mask_image)
    images = last.latents.cpu() if output_type == "latent" else as_output(x, output_type)
    result = Result(images, x, [recipe | mark for recipe, mark in zip(recipes, marks, strict=True)])
    return result if return_dict else result.to_tuple()


ARGUMENTS = """
negative_prompt: a caption to be led away from, the same for all pictures. label: class numbers or names, for
class-conditional models. guidance_scale: of classifier-free guidance; 1 is none; by default 3 where the model has
a null condition and no guidance is asked for by name; or a function of the noise share, t / (T - 1) of the training
timestep t of T, 1 is noise (`guidance.with_strength`). num_inference_steps: a number (by default 20, or a distilled
model's own), or a respacing ("fast27", "ddim50", "10,10,3,2,2"). sampler, spacing: a name of
`glide.diffusion.samplers.registry`; spacing says where a number of steps lie. eta: DDIM's noise, 0 to 1.

seed: picture i has the seed `seed + i`. generator: instead, one for all pictures, or one for each, from which their
seeds are drawn; without either they come from torch's global generator. latents: the noise [N,C,H,W] that the
pictures begin with, in place of their seeds'. guidances: further ones, by name as on the command line ("pag:2",
"clip:50@0-800"), or objects, made for as many rows as there are pictures, or for one; recipes hold names only.
options: of the guidances that are asked for by name, and for all.

image (or init_image): a picture that the run begins with (its middle square), or one for each prompt: a path, a PIL
picture, an array or a tensor. It is noised as far as strength says, above 0 (it stays) to 1 (nothing of it is
left), by default 0.6. mask_image: repaint what is white in it, of one picture of any size, by default with
strength 1; the results have the size of the picture, and its pixels outside of the mask. condition: a picture that
the model is conditioned on, or one for each prompt, or a dictionary from kinds to these, {"map": numbers}.
height, width: of the pictures, by default those of the model's (the first of its trained sizes); other ones the
network draws as well as it can, and warns where they are far from those of its training.

For a model of image embeddings: like_image, a picture to be varied, or one for each prompt (which may be left out);
image_embedding, numbers [E] or [N,E] in its place; or prior, by name or loaded, which draws them from the prompts.

output_type: "pil", "np", "pt", or "latent" of a model that draws latents; see `Result.images`. return_dict: False
for a tuple of the images alone.
callback_on_step_end: a function of (pipe, step, t, kwargs), called after each step; kwargs holds the tensors that
callback_on_step_end_tensor_inputs names ("latents", "x0"), and a dictionary that it returns replaces the latents.
`pipe._interrupt = True` in it stops the run after this step. Returns a `Result`. InputError for whatever does not
fit.
"""
call.__doc__ = f"{call.__doc__}\n{ARGUMENTS}"


Scale = float | Callable[[float], float] | None  # guidance_scale of a call
Shown = tuple[Pictured | None, Tensor | None, str | Path | Prior | None]
"""like_image, image_embedding and prior of a call."""


def _words(
    pipe: BasePipeline, prompt: str | Sequence[str] | None, scale: Scale, shown: Shown
) -> tuple[str | Sequence[str] | None, Scale]:
    """Prompt and scale of classifier-free guidance: none where a picture alone says what to draw."""
    like_image, embedding, _ = shown
    alone = prompt is None and not (like_image is None and embedding is None)
    return ("", scale or 1.0) if alone and pipe.model.config.reads_captions else (prompt, scale)


def _conditioned(
    pipe: BasePipeline,
    pictures: list[ImageRequest],
    condition: Pictured | Mapping[str, Pictured] | None,
    shown: Shown,
    size: Size | None,
) -> tuple[list[ImageRequest], list[dict[str, Any]]]:
    """N requests with the pictures and embeddings that they are conditioned on, and the entries of their recipes."""
    conditions = read_conditions(condition, pipe.model, size)
    pictures = with_conditions(pictures, conditions)
    embeddings = read_embeddings(*shown, pictures, pipe.model)
    entries = with_entries(entries_of(embeddings, len(pictures)), conditions)
    return with_embeddings(pictures, embeddings, pipe.model), entries


def _check_names(nameless: Sequence[Any], unknown: Mapping[str, Any]) -> None:
    """InputError for arguments without a name, or with one that there is not."""
    if nameless:
        raise InputError(
            f"got {shown_number(nameless[0])} without a name after the prompt, expected all but the prompt by their "
            "names: write for example num_inference_steps=20"
        )
    if unknown:
        refuse_unknown(unknown, inspect.signature(call).parameters, "a call of the pipeline")


def _init_images(image: Pictured | None, init_image: Pictured | None) -> list[Read]:
    """The pictures that a run begins with. InputError where they are given by both names."""
    if image is not None and init_image is not None:
        raise InputError("got image and init_image, which are one and the same, expected one: leave one out")
    if image is not None:
        return read_pictures(image, "image")
    return [] if init_image is None else read_pictures(init_image, "init_image")


def _guidance_and_scale(
    pipe: BasePipeline, scale: Scale, names: Sequence[str], options: Options
) -> tuple[str | tuple[str, ...], float | None]:
    """`SamplingConfig.guidance` and `.scale`: classifier-free guidance, and those that are asked for by name."""
    if callable(scale):
        return (with_strength("cfg", scale), *names), None
    if scale is None:
        guided = not names and (pipe.conditioner.has_null or options.negative is not None)
        scale = named("cfg").scale if guided else 1.0
    scale = check_scale(scale)
    if names:
        return (*([] if scale == 1.0 else [f"cfg:{scale!r}"]), *names), None
    return "none" if scale == 1.0 else "cfg", scale


def _check_by_name(objects: Sequence[Guidance], latents: object, condition: object) -> None:
    """InputError for arguments that inpainting does not take."""
    if condition is not None:
        raise InputError(
            "got a mask_image and a condition, which is one of whole pictures, expected one of them: leave one out"
        )
    if objects or latents is not None:
        raise InputError(
            "got a mask_image and guidance objects or latents, expected guidances by name: leave the others out"
        )


def _drawn(
    pipe: BasePipeline,
    pictures: Sequence[ImageRequest],
    settings: SamplingConfig,
    objects: Sequence[Guidance],
    watch: Watch,
    starts: Sequence[Read],
    latents: Tensor | None,
) -> tuple[Step, list[dict[str, Any]]]:
    """The last step and the recipes of N pictures. starts: none, one for all, or some in their order."""
    if starts and latents is not None:
        raise InputError("got latents and a picture to begin with, expected one of them: leave one out")
    if len(starts) > 1 and len(pictures) % len(starts):
        raise InputError(
            f"got {len(starts)} pictures to begin with for {len(pictures)} to draw, expected one, or one for each "
            "prompt: give as many"
        )
    marks: list[dict[str, Any]] = [{} for _ in pictures]
    if starts:
        each = len(pictures) // len(starts)
        begins = [init_image_of(start.picture, pipe.model, settings.size) for start in starts]
        pictures = [
            replace(one, given=replace(one.given, start=begins[i // each])) for i, one in enumerate(pictures)
        ]
        marks = [
            {"strength": settings.strength, **starts[i // each].recipe("init")} for i in range(len(pictures))
        ]
    elif latents is not None:
        noise = _latents(pipe, latents, len(pictures), settings.size)
        pictures = [
            replace(one, given=replace(one.given, latent=x)) for one, x in zip(pictures, noise, strict=True)
        ]
        marks = [{"made_by": "Python, from latents"} for _ in pictures]
    run = pipe.for_run(len(pictures))
    steps = run.draw(pictures, settings, objects)
    with watch.run(pipe.steps(settings)):
        for step in steps:
            watch(step)
    recipes = [
        run.recipe(picture, settings, place) | mark | watch.mark
        for place, (picture, mark) in enumerate(zip(pictures, marks, strict=True))
    ]
    return step, recipes


def _size_of(pipe: BasePipeline, height: object, width: object, paints: bool) -> Size | None:
    """The size (H, W) to draw, None for the model's default. paints: with a mask, where a picture has its own size.

    InputError for one that the network cannot take.
    """
    config = pipe.model.config
    own = default_size(config)
    pairs = (("height", height, own[0]), ("width", width, own[1]))
    asked = [default if value is None else SIDE.whole(value, name) for name, value, default in pairs]
    size = (asked[0], asked[1])
    if paints and size != own:
        raise InputError(
            f"got {'width' if height is None else 'height'} and mask_image, expected one of them, as the results have "
            "the size of the picture: leave the size out"
        )
    return size_to_draw(config, size, "width x height")


def _with_negative(options: Options, negative: str | Sequence[str] | None) -> Options:
    """The options with the negative prompt in them. InputError for several, or for another one in the options."""
    if not isinstance(options, Options):
        raise InputError(
            f"got {type(options).__name__} as options, expected Options: write options=Options(rescale=0.7)"
        )
    given = [negative] if isinstance(negative, str) else several(negative, "negative_prompt", "a caption")
    if not all(isinstance(caption, str) for caption in given):
        raise InputError(f"got the negative_prompt {shown_number(negative)}, expected a caption: give a text")
    captions = set(given)
    if len(captions) > 1:
        raise InputError(
            "got several negative prompts, expected one for all pictures of a call: call the pipeline for each"
        )
    caption = (
        next(iter(captions), None) or None
    )  # an empty one is no caption, from which one is led away anyway
    if caption is None:
        return options
    if options.negative not in (None, caption):
        raise InputError("got a negative_prompt, and another one in options, expected one: leave one out")
    return replace(options, negative=caption)


def _strength(strength: float | None, begins: bool, paints: bool) -> float:
    """InputError for one that is given where nothing is begun with."""
    if paints and not begins:
        raise InputError("got a mask_image without a picture, expected both: give image, too")
    if strength is None:
        return USUAL_STRENGTH if begins and not paints else 1.0
    strength = real(strength, "the strength", 0.0, 1.0, above=True, do="try 0.6")
    if not begins and strength < 1.0:
        raise InputError(
            f"got the strength {strength:g} without a picture to begin with, expected one: give image"
        )
    return strength


def _guidances(given: Guidance | str | Sequence[Guidance | str]) -> tuple[list[str], list[Guidance]]:
    """Those that are asked for by name, and those that are objects."""
    single = isinstance(given, str | Guidance)
    guides = [given] if single else several(given, "guidances", "names or Guidance objects")
    for guide in guides:
        if not isinstance(guide, str | Guidance):
            raise InputError(
                f"got the guidance {shown_number(guide)}, expected a name or a Guidance: write 'pag:2'"
            )
    return [one for one in guides if isinstance(one, str)], [
        one for one in guides if isinstance(one, Guidance)
    ]


def _latents(pipe: BasePipeline, latents: object, count: int, size: Size | None) -> Tensor:
    """[N,C,H,W] float32, finite. InputError for another shape."""
    config = pipe.model.config
    shape = (count, config.unet.in_channels, *in_first_stage(config, size))
    if not isinstance(latents, Tensor) or latents.shape != shape:
        came = tuple(latents.shape) if isinstance(latents, Tensor) else type(latents).__name__
        raise InputError(
            f"got latents of {came}, expected a tensor of {shape}: make them by torch.randn{shape}"
        )
    noise = latents.detach().to(pipe.device, torch.float32)
    if not bool(noise.isfinite().all()):
        raise InputError("got latents that are not finite numbers, expected noise: make them by torch.randn")
    return noise
