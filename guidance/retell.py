"""What a recipe says of guidance, written and read back.

Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from guidance.names import FOR_ALL, read_by
from guidance.options import Options
from guidance.settings import Settings

OLD_CALL_SIZE = 8
"""Of the network calls that drew pictures whose recipes name no size."""


def guidance_of(settings: Settings) -> dict[str, Any]:
    """The guidances with their scales, and the options that they read, JSON-able.

    One guidance is {"guidance": "cfg", "scale": 3.0}, as it always was; several are a list of "name:scale@from-to".
    """
    terms = settings.terms
    found: dict[str, Any] = {"guidance": [str(term) for term in terms]}
    if len(terms) == 1:
        found = {"guidance": terms[0].name + terms[0].at, "scale": terms[0].scale}
    read = asdict(settings.options.of(read_by(terms) | FOR_ALL))
    # also those that are as by default, which may change; but not those that say nothing
    options = {name: value for name, value in read.items() if value is not None and name in read_by(terms)}
    options |= {name: read[name] for name in sorted(FOR_ALL) if read[name]}
    return found | ({"options": options} if options else {})


def read_guidance(recipe: Mapping[str, Any]) -> tuple[tuple[str, ...], float | None, Options]:
    """The guidances as they are written on a command line, the scale of those without one, and the options.

    KeyError, TypeError or ValueError for what no version wrote.
    """
    guidance = recipe["guidance"]
    texts = (guidance,) if isinstance(guidance, str) else tuple(str(text) for text in guidance)
    scale = float(recipe["scale"]) if isinstance(guidance, str) else None
    return texts, scale, Options.read(recipe.get("options", {}))
