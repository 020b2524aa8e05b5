"""Drawing again what a PNG's recipe tells of: with the same networks, in the same place, on a machine set alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from glide import recipe as machine
from glide.errors import InputError
from guidance.options import Options
from guidance.pipeline import Pipeline


class Asked(Protocol):
    """Flags of a script that draws."""

    @property
    def model(self) -> str: ...
    @property
    def guiding(self) -> Options: ...
    @property
    def like(self) -> str | None: ...


def return_to(recipe: Mapping[str, Any], args: Asked, pipe: Pipeline) -> int:
    """Make this process what drew the recipe's picture; returns the picture's place in its network call.

    InputError where a network of that name has other weights now.
    """
    if args.model == recipe["model"] and pipe.fingerprint != recipe.get("weights"):
        raise InputError(
            f"the model {args.model} has other weights ({pipe.fingerprint}) than the one that drew {args.like} "
            f"({recipe.get('weights')}): give that one by --model"
        )
    options = {name: getattr(args.guiding, name) for name in recipe.get("guides", {})}
    if recipe.get("guides") and options == {name: recipe["options"].get(name) for name in options}:
        for name, weights in pipe.guides.fingerprints(args.guiding, frozenset(options)).items():
            if weights != recipe["guides"][name]:
                raise InputError(
                    f"the network {options[name]} has other weights ({weights}) than the one that guided {args.like} "
                    f"({recipe['guides'][name]}): give that one by --{name}"
                )
    machine.return_to(recipe, pipe.device)
    place = recipe.get("place", 0)
    return place if isinstance(place, int) and place >= 0 else 0
