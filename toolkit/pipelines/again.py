"""Drawing again what a PNG's recipe tells of: with the same networks, in the same place, on a machine set alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from glide.checkpoints import provenance as machine
from glide.utils.errors import InputError
from glide.utils.ranges import FROM_ZERO
from guidance.options import Options
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.recipe_reader import Recorded

GUIDES = ("weak", "classifier", "clip")
"""Options that name a network whose weights a recipe holds."""


class SamplingFlags(Protocol):
    """Flags of a script that draws."""

    @property
    def model(self) -> str: ...
    @property
    def guiding(self) -> Options: ...
    @property
    def like(self) -> str | None: ...


def restore(recipe: Mapping[str, Any], args: SamplingFlags, pipe: Pipeline) -> int:
    """Make this process what drew the recipe's picture; returns the picture's place in its network call.

    InputError where a network of that name has other weights now.
    """
    if args.model.partition("@")[0] == str(recipe["model"]).partition("@")[
        0
    ] and pipe.fingerprint != recipe.get("weights"):
        raise InputError(
            f"the model {args.model} has other weights ({pipe.fingerprint}) than the one that drew {args.like} "
            f"({recipe.get('weights')}): give that one by --model"
        )
    recorded = Recorded(recipe, str(args.like))
    guides, options = recorded.table("guides"), recorded.table("options")
    weights = {name: guides.text(name) for name in guides.values if name in GUIDES}
    names = {name: getattr(args.guiding, name) for name in weights}
    if weights and names == {name: options.text(name, None) for name in names}:
        for name, found in pipe.guides.fingerprints(args.guiding, frozenset(names)).items():
            if found != weights[name]:
                raise InputError(
                    f"the network {names[name]} has other weights ({found}) than the one that guided {args.like} "
                    f"({weights[name]}): give that one by --{name}"
                )
    machine.restore_environment(recipe, pipe.device)
    return int(recorded.whole("place", FROM_ZERO, 0))
