"""The models of the sample command, and the pictures that all of a run begin with or are conditioned on."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from glide.networks.image_request import NO_PIXELS, KnownPixels
from toolkit.commands.sample_flags import Sample
from toolkit.commands.second_stage import fetch_stages, stages_of
from toolkit.pipelines.conditions import (
    check_conditions,
    read_condition_files,
    recipe_of_conditions,
)
from toolkit.pipelines.image_embeddings import check_embeddings, embeddings_of_pictures
from toolkit.pipelines.image_to_image import read_init_image
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe import restore
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler


@dataclass(frozen=True)
class SampleModels:
    """The models and all that pictures of one run have in common."""

    pipe: Pipeline
    settings: SamplingConfig
    upscaler: Upscaler | None
    given: KnownPixels
    entries: dict[str, Any]
    """Of `given`, for recipes."""
    place: int = 0
    """Place of the first picture in its network call."""


def load_models(args: Sample, recipe: Mapping[str, Any] | None) -> SampleModels:
    """Load the models, and what is given. InputError for what cannot be used."""
    settings = args.settings(has_null=True)  # numbers out of range, before a model is loaded
    fetch_stages(args)
    pipe = Pipeline.from_pretrained(
        args.model,
        args.device,
        args.dtype,
        args.call_size,
        args.vocab,
        compiles=args.compile,
        revision=args.revision,
    )
    place = restore(recipe, args, pipe.context) if recipe is not None else 0
    settings = args.settings(pipe.conditioner.has_null)
    size, upscaler = stages_of(args, pipe, recipe)
    settings = replace(settings, size=size)
    conditions = read_condition_files(args.condition, pipe.model, size)
    first = None if args.init_image is None else read_init_image(args.init_image, pipe.model, size)
    if recipe is not None:
        check_conditions(conditions, recipe, str(args.like))
        if first is not None:
            first.check(recipe, str(args.like))
    given = NO_PIXELS if first is None else KnownPixels(start=first.image)
    given = replace(given, conditions={one.kind.key: one.stored for one in conditions})
    entries = recipe_of_conditions(conditions) | (
        first.recipe(settings.strength) if first is not None else {}
    )
    if args.like_image is not None:
        shown = embeddings_of_pictures(args.like_image, pipe.model, "--like-image")
        check_embeddings(shown, recipe or {}, str(args.like))
        given, entries = replace(given, embedding=shown[0].embedding), {**entries, **shown[0].entries}
    return SampleModels(pipe, settings, upscaler, given, entries, place)
