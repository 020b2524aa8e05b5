"""What a recipe says of guidance, written and read back.

Imports nothing heavy.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from glide.utils.ranges import SCALE, kinds, range_of
from guidance.names import FOR_ALL, interval_of, read_by
from guidance.options import Options
from guidance.spec import EVERYWHERE, GuidanceSpec
from toolkit.pipelines.recipe_reader import Recorded
from toolkit.pipelines.settings import SamplingConfig

OLD_CALL_SIZE = 8
"""Of the network calls that drew pictures whose recipes name no size."""


OLD_INTERVALS = {"classifier": EVERYWHERE, "clip": EVERYWHERE, "cads": (600, 900)}
"""Of guidances that a recipe names without one, as recipes did before usual intervals were written into them: for
models of 1000 timesteps, which all presets have."""


def guidance_of(settings: SamplingConfig, steps: int | None = None) -> dict[str, Any]:
    """The guidances with their scales, and the options that they read, JSON-able.

    One guidance is {"guidance": "cfg", "scale": 3.0}, as it always was; several are a list of "name:scale@from-to".
    steps: training timesteps, for the intervals of guidances that act at some of them where none are given.
    """
    terms = settings.terms
    if steps is not None:
        terms = tuple(_placed(term, steps) for term in terms)
    found: dict[str, Any] = {"guidance": [str(term) for term in terms]}
    if len(terms) == 1:
        found = {"guidance": terms[0].name + terms[0].at, "scale": terms[0].scale}
    read = asdict(settings.options.of(read_by(terms) | FOR_ALL))
    # also those that are as by default, which may change; but not those that say nothing
    options = {name: value for name, value in read.items() if value is not None and name in read_by(terms)}
    options |= {name: read[name] for name in sorted(FOR_ALL) if read[name]}
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
    """From a recipe's table. InputError for an option that there is not, or a value of another kind."""
    numbers, known = kinds(Options), [f.name for f in fields(Options)]
    found: dict[str, Any] = {}
    for name in recorded.values:
        if name not in known:
            raise recorded.wrong(name, recorded.values[name], f"one of {', '.join(known)}")
        is_number = name in numbers
        found[name] = recorded.real(name, range_of(Options, name)) if is_number else recorded.text(name)
    return Options(**found)


def _placed(term: GuidanceSpec, steps: int) -> GuidanceSpec:
    usual = interval_of(term, steps)
    return term if usual == EVERYWHERE else replace(term, interval=usual)


def _as_it_was(text: str) -> str:
    then = OLD_INTERVALS.get(text.partition(":")[0])
    return text if then is None or "@" in text else f"{text}@{then[0]}-{then[1]}"
