"""Recipes: what a picture's PNG records, so that it can be drawn again. Written, read back and restored.

Imports nothing heavy at its top, as flags read recipes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

from glide.utils.errors import InputError
from glide.utils.picture_size import size_text
from glide.utils.ranges import FROM_ZERO, SCALE, kinds, range_of
from guidance.options import Options
from guidance.registry import SHARED_OPTIONS, interval_of, read_by
from guidance.spec import EVERYWHERE, GuidanceSpec
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.settings import SamplingConfig

if TYPE_CHECKING:
    from glide.networks.image_request import ImageRequest
    from guidance.context import ModelContext

GUIDES = ("weak", "classifier", "clip")
"""Options that name a network whose weights a recipe holds."""
OLD_CALL_SIZE = 8
"""Of the network calls that drew pictures whose recipes name no size."""


OLD_INTERVALS = {"classifier": EVERYWHERE, "clip": EVERYWHERE, "cads": (600, 900)}
"""Of guidances that a recipe names without one, as recipes did before usual intervals were written into them: for
models of 1000 timesteps, which all presets have."""


def recipe_of(
    context: ModelContext, picture: ImageRequest, settings: SamplingConfig, place: int
) -> dict[str, Any]:
    """Write the recipe of a picture, JSON-able.

    context: of the run. place: of the picture in it, counted as `BasePipeline.draw` does.
    """
    from glide.checkpoints.provenance import environment
    from toolkit.pipelines.denoising_loop import step_count

    found: dict[str, Any] = {"model": context.name, "weights": context.fingerprint}
    found |= {"commit": context.model.commit} if context.model.commit else {}
    config = context.model.config
    if config.reads_captions or picture.caption:
        found["prompt"] = picture.caption
    classes = context.classes(settings.specs, settings.options)
    if classes.num_classes:
        found["label"] = picture.label
        if classes.class_names and picture.label is not None:
            found["class"] = classes.class_names[picture.label]
    found |= {"seed": picture.seed, "sampler": settings.sampler, "respacing": settings.respacing}
    found |= {"spacing": settings.spaced} if settings.spaced != "uniform" else {}
    found |= {"steps": step_count(context.model.process, settings), "eta": settings.eta}
    found |= {"temperature": settings.temperature} if settings.temperature != 1.0 else {}
    found |= guidance_of(settings, len(context.model.process))
    if settings.strength < 1.0:
        found |= {"strength": settings.strength}
    found |= {"deep_every": settings.deep_every} if settings.deep_every > 1 else {}
    found |= {"size": size_text(settings.size)} if settings.size is not None else {}
    if settings.resamplings > 1:
        found |= {"jump": settings.jump, "resamplings": settings.resamplings}
    guides = context.guide_networks.fingerprints(settings.options, read_by(settings.specs))
    found |= {"guides": guides} if guides else {}
    found |= {"vocab": context.vocab} if context.vocab else {}
    found |= {"dtype": str(context.dtype).removeprefix("torch.")}
    found |= {"compile": True} if context.compiled else {}
    assert context.call_size is not None
    found |= {"call_size": context.call_size, "place": place % context.call_size}
    return found | environment(context.device)


def guidance_of(settings: SamplingConfig, steps: int | None = None) -> dict[str, Any]:
    """The guidances with their scales, and the options that they read, JSON-able.

    One guidance is {"guidance": "cfg", "scale": 3.0}, as it always was; several, and one whose strength depends
    on the timestep, are a list of "name:scale@from-to".
    steps: training timesteps, for the intervals of guidances that act at some of them where none are given.
    """
    specs = settings.specs
    if steps is not None:
        specs = tuple(_placed(spec, steps) for spec in specs)
    found: dict[str, Any] = {"guidance": [str(spec) for spec in specs]}
    if len(specs) == 1 and specs[0].schedule is None:
        found = {"guidance": specs[0].name + specs[0].at, "scale": specs[0].scale}
    read = asdict(settings.options.of(read_by(specs) | SHARED_OPTIONS))
    # also those that are as by default, which may change; but not those that say nothing
    options = {name: value for name, value in read.items() if value is not None and name in read_by(specs)}
    options |= {name: read[name] for name in sorted(SHARED_OPTIONS) if read[name]}
    return found | ({"options": options} if options else {})


def read_guidance(recipe: Recorded) -> tuple[tuple[str, ...], float | None, Options]:
    """The guidances as they are written on a command line, the scale of those without one, and the options.

    InputError for what no version wrote.
    """
    one = isinstance(recipe.values.get("guidance"), str)
    texts = (recipe.text("guidance"),) if one else recipe.texts("guidance")
    texts = tuple(_as_it_was(text) for text in texts)
    scale = recipe.real("scale", SCALE) if one else None
    return texts, scale, read_options(recipe.table("options"))


def read_options(recorded: Recorded) -> Options:
    """Read the options in a recipe's table. InputError for an option that there is not, or a value of another kind."""
    numbers, known = kinds(Options), [f.name for f in fields(Options)]
    found: dict[str, Any] = {}
    for name in recorded.values:
        if name not in known:
            raise recorded.wrong(name, recorded.values[name], f"one of {', '.join(known)}")
        is_number = name in numbers
        found[name] = recorded.real(name, range_of(Options, name)) if is_number else recorded.text(name)
    return Options(**found)


def _placed(spec: GuidanceSpec, steps: int) -> GuidanceSpec:
    usual = interval_of(spec, steps)
    return spec if usual == EVERYWHERE else replace(spec, interval=usual)


def _as_it_was(text: str) -> str:
    then = OLD_INTERVALS.get(re.split("[:~]", text)[0])
    return text if then is None or "@" in text else f"{text}@{then[0]}-{then[1]}"


OF_BOTH_STAGES = frozenset(
    {"prompt", "label", "class", "seed", "dtype", "call_size", "place", "version", "torch"}
)
OF_BOTH_STAGES |= frozenset({"device", "threads", "cpu", "gpu"})
"""Entries of a recipe that hold for both stages."""


def with_stage(recipe: Mapping[str, Any], size: int | str, stage: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a picture that was drawn by `recipe` and then enlarged by `stage`.

    size: of the large picture, as `glide.utils.picture_size.recorded_size` writes it.
    """
    own = {name: value for name, value in stage.items() if name not in OF_BOTH_STAGES}
    return {**recipe, "size": size, "upsampler": own}


class SamplingFlags(Protocol):
    """Flags of a script that draws."""

    @property
    def model(self) -> str: ...
    @property
    def guiding(self) -> Options: ...
    @property
    def like(self) -> str | None: ...


def restore(recipe: Mapping[str, Any], args: SamplingFlags, context: ModelContext) -> int:
    """Set this process as the one that drew the recipe's picture; returns the picture's place in its network call.

    InputError where a network of that name has other weights now.
    """
    from glide.checkpoints.provenance import restore_environment

    if args.model.partition("@")[0] == str(recipe["model"]).partition("@")[
        0
    ] and context.fingerprint != recipe.get("weights"):
        raise InputError(
            f"the model {args.model} has other weights ({context.fingerprint}) than the one that drew {args.like} "
            f"({recipe.get('weights')}): give that one by --model"
        )
    recorded = Recorded(recipe, str(args.like))
    guides, options = recorded.table("guides"), recorded.table("options")
    weights = {name: guides.text(name) for name in guides.values if name in GUIDES}
    names = {name: getattr(args.guiding, name) for name in weights}
    if weights and names == {name: options.text(name, None) for name in names}:
        for name, found in context.guide_networks.fingerprints(args.guiding, frozenset(names)).items():
            if found != weights[name]:
                raise InputError(
                    f"the network {names[name]} has other weights ({found}) than the one that guided {args.like} "
                    f"({weights[name]}): give that one by --{name}"
                )
    restore_environment(recipe, context.device)
    return int(recorded.whole("place", FROM_ZERO, 0))
