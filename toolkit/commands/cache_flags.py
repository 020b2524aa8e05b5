"""List, fetch and remove the models that OpenAI published, in the cache from which --model NAME takes them.

examples:
    python scripts/cache.py list
    python scripts/cache.py available
    python scripts/cache.py fetch glide glide-upsampler
    python scripts/cache.py remove adm-64

The cache is the folder $GLIDE_CACHE, by default glide in the place of a user's caches (~/.cache on Linux).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import Positional

from glide.utils.errors import InputError

Action = Literal["list", "available", "fetch", "remove"]


@dataclass(frozen=True)
class Cache:
    """The flags."""

    action: Annotated[Action, Positional] = "list"
    """list: what is in the cache. available: the published models, their sizes and licences. fetch: models ahead of
    their first use, on a machine with a connection. remove: models or files from the cache."""
    names: Annotated[tuple[str, ...], Positional] = ()
    """(fetch, remove) Names, as available and list show them."""

    def check(self) -> None:
        """InputError for an action without the names that it needs, or with names that it does not take."""
        needs = self.action in ("fetch", "remove")
        if needs and not self.names:
            raise InputError(
                f"got {self.action} without a name, expected one or more: add those of the models"
            )
        if self.names and not needs:
            raise InputError(
                f"got {self.action} with the name {self.names[0]!r}, expected none: leave it out"
            )
