"""Pictures of the store that a model is conditioned on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from glide.networks.image_request import ImageRequest, KnownPixels
from toolkit.pipelines.conditions import read_conditions, recipe_of_conditions, with_conditions
from toolkit.pipelines.pipeline import Pipeline
from toolkit.web.picture_store import PictureStore
from toolkit.web.uploads import decoded


def conditions_of(
    ids: Mapping[str, str], pipe: Pipeline, store: PictureStore, given: KnownPixels
) -> tuple[KnownPixels, dict[str, Any]]:
    """Known pixels with the conditions of these ids by kind, and their entries in a recipe.

    InputError for an unknown kind, a missing one, and for what is no such picture.
    """
    pictures = {kind: decoded(store.get(identity)) for kind, identity in ids.items()}
    found = read_conditions({kind: one.picture for kind, one in pictures.items()} or None, pipe.model)
    (request,) = with_conditions([ImageRequest(0, given=given)], found)
    entries = recipe_of_conditions(
        [replace(one, path=pictures[one.kind.name].name) for one in found[0]] if found else []
    )
    return request.given, entries
