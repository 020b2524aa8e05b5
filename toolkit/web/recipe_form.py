"""From the recipe in a stranger's PNG to the fields of the page's form, every value checked.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from typing import Any

from glide.utils.errors import InputError
from glide.utils.ranges import COUNT, ETA, FROM_ZERO, PIXELS, SEED, STRENGTH
from guidance.options import Options
from guidance.spec import GuidanceSpec
from toolkit.pipelines.recipe import read_guidance
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.web.served_models import ServedModels


def form_of(values: Mapping[str, Any], name: str, models: ServedModels) -> tuple[dict[str, Any], list[str]]:
    """The fields with which a picture was drawn, and notes on what they cannot repeat. name: of the file.

    InputError for what no version wrote.
    """
    recipe, notes = Recorded(values, name), list[str]()
    if "enlarged" in recipe:
        raise InputError(f"{name} was not drawn but enlarged: enlarge its picture again")
    texts, scale, options = read_guidance(recipe)
    specs = [GuidanceSpec.parse(text) for text in texts]
    guidance = [
        str(spec if spec.scale is not None or scale is None else replace(spec, scale=scale)) for spec in specs
    ]
    form: dict[str, Any] = {
        "caption": recipe.text("prompt", ""),
        "seed": str(recipe.whole("seed", SEED)),
        "count": 1,
        "sampler": recipe.text("sampler"),
        "steps": recipe.text("respacing"),
        "spacing": recipe.text("spacing", "uniform"),
        "eta": recipe.real("eta", ETA),
        "guidance": [] if guidance == ["none"] else guidance,
        "call_size": recipe.whole("call_size", COUNT, 8),
        "place": recipe.whole("place", FROM_ZERO, 0),
    }
    form |= {"negative": options.negative or "", "options": _given(options)}
    if recipe.values.get("label") is not None:
        form["label"] = recipe.text("class", None) or str(recipe.whole("label", FROM_ZERO))
    if "upsampler" in recipe:
        form["size"] = recipe.whole("size", PIXELS)
    if "strength" in recipe:
        form["strength"] = recipe.real("strength", STRENGTH)
    notes += _unrepeatable(recipe)
    label, of_model = _model(recipe, models)
    form |= {} if label is None else {"model": label}
    return form, notes + of_model


def _given(options: Options) -> dict[str, Any]:
    """The options as a form sends them, without the negative caption."""
    values, defaults = asdict(options), {option.name: option.default for option in fields(Options)}
    return {name: value for name, value in values.items() if name != "negative" and value != defaults[name]}


def _unrepeatable(recipe: Recorded) -> list[str]:
    """Sentences on what was special about a picture."""
    found = []
    made_by = recipe.text("made_by", None)
    if made_by == "inpaint.py":
        found.append(
            "It was painted into a picture: open that picture and its mask in the editor to paint it again."
        )
    elif made_by is not None:
        found.append(f"It was made by {made_by[:80]}: a new picture is another one.")
    if recipe.text("init_image", None) is not None:
        found.append("It began with a picture: give that one to repeat it.")
    unknown = ("temperature", "deep_every", "compile", "like_image", "prior", "condition")
    return found + [
        f"Its setting {name} is not one of this page's: a new picture is another one."
        for name in unknown
        if name in recipe
    ]


def _model(recipe: Recorded, models: ServedModels) -> tuple[str | None, list[str]]:
    """The label of the recipe's model, and what is different about it here."""
    name = str(recipe.text("model"))
    label = next(
        (label for label, of in models.names.items() if of.partition("@")[0] == name.partition("@")[0]), None
    )
    if label is None:
        return None, [f"Its model {name[:80]} is not served here: a new picture is another one."]
    pipe = models.pipes.get(label)
    if pipe is None:
        return label, []
    from glide.checkpoints.provenance import differences, environment

    if pipe.fingerprint != recipe.values.get("weights"):
        return label, [f"The model {label} has other weights now: a new picture is another one."]
    here = environment(pipe.device) | {"dtype": str(pipe.dtype).removeprefix("torch.")}
    other = differences(recipe.values, here)
    return label, [f"It was drawn with {'; '.join(other)}: its last bits can differ."] if other else []
