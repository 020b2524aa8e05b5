"""Recipes as anybody may have written them: every value is checked as it is read, and what they name is not trusted.

Imports nothing heavy.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, Protocol

from glide.utils.errors import InputError
from glide.utils.json_files import kind_of
from glide.utils.numbers import Range, shown_number
from glide.utils.printable import beginning
from glide.utils.ranges import flag

MOST_ENTRIES = 10_000  # captions of one grid
EMBEDDED = ("glide", "guidance", "upsampler")
"""Packages beside this one whose folder `models` holds embedded networks."""
NETWORKS = ("model", "upsampler", "weak", "classifier", "clip", "prior")
"""Flags that name a network: of these an embedded one needs no trust."""
FILES = ("vocab", "upsampler_vocab", "clip_vocab", "init_image", "image", "mask", "condition", "like_image")
"""Flags that name a file, a folder, or what is fetched from the hub."""

REQUIRED: Final = object()


class Recorded:
    """A recipe, or a table in one. All methods raise InputError for a value of another kind, or one that is missing."""

    def __init__(self, values: Any, file: str, table: str = "") -> None:
        """file: whose recipe it is, for messages. table: the name of the table."""
        self.file, self._table = file, ""
        if not isinstance(values, Mapping):
            raise self.wrong(table or "recipe", values, "a table")
        self._table = f"{table}." if table else ""
        self.values: Mapping[str, Any] = values

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def text(self, name: str, default: Any = REQUIRED) -> Any:
        """A text; `default` where there is none of that name."""
        if self._lacks(name, default):
            return default
        value = self.values[name]
        if not isinstance(value, str):
            raise self.wrong(name, value, "a text")
        return value

    def network(self) -> str:
        """The name of the model; of one from the hub with the commit that it was fetched at."""
        name = str(self.text("model"))
        if "commit" not in self:
            return name
        commit = self.text("commit")
        if not re.fullmatch(r"[0-9a-f]{40}", commit):
            raise self.wrong("commit", commit, "40 hexadecimal digits")
        return f"{name.partition('@')[0]}@{commit}"

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._list(name)
        for one in value:
            if not isinstance(one, str):
                raise self.wrong(name, one, "texts")
        return tuple(value)

    def numbers(self, name: str, allowed: Range) -> tuple[int | None, ...]:
        """A list of whole numbers; null stands for none."""
        values = self._list(name)
        return tuple(None if one is None else self._number(allowed.whole, one, name) for one in values)

    def whole(self, name: str, allowed: Range, default: Any = REQUIRED) -> Any:
        """A whole number in a range."""
        return default if self._lacks(name, default) else self._number(allowed.whole, self.values[name], name)

    def real(self, name: str, allowed: Range, default: Any = REQUIRED) -> Any:
        """A finite number in a range."""
        return default if self._lacks(name, default) else self._number(allowed.real, self.values[name], name)

    def flag(self, name: str, default: Any = REQUIRED) -> bool:
        """True or false."""
        value = default if self._lacks(name, default) else self.values[name]
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def table(self, name: str) -> Recorded:
        """A table in this one; an empty one where there is none."""
        return Recorded(self.values.get(name, {}), self.file, f"{self._table}{name}")

    def wrong(self, name: str, value: Any, expected: str) -> InputError:
        """The sentence for a value that no version of this toolkit wrote."""
        got = kind_of(value) if isinstance(value, dict | list) or value is None else shown_number(value)
        return InputError(
            f"the recipe in {self.file} has {self._table}{name} {got}, expected {expected}: give another PNG"
        )

    def _lacks(self, name: str, default: Any = REQUIRED) -> bool:
        """True where the default is to be taken; InputError where there is none."""
        if name not in self.values and default is REQUIRED:
            raise InputError(
                f"the recipe in {self.file} is incomplete (it has no {self._table}{name}): give another PNG"
            )
        return name not in self.values

    def _list(self, name: str) -> list[Any]:
        self._lacks(name)
        value = self.values[name]
        if not isinstance(value, list) or len(value) > MOST_ENTRIES:
            raise self.wrong(name, value, f"a list of at most {MOST_ENTRIES} entries")
        return value

    def _number(self, check: Any, value: Any, name: str) -> Any:
        try:
            return check(value, f"{self._table}{name}")
        except InputError as error:
            raise InputError(f"the recipe in {self.file}: {error}") from None


class Flags(Protocol):
    """Flags of a script that takes --like."""

    @property
    def __dataclass_fields__(self) -> dict[str, Any]: ...
    @property
    def trust_recipe(self) -> bool: ...
    @property
    def like(self) -> str | None: ...


def check_trust(args: Flags, given: Flags) -> None:
    """InputError that lists what a stranger's recipe names, where it would be opened without being asked for.

    args: the flags with the recipe's in place of the defaults. given: those of the command line alone.
    """
    if given.trust_recipe:
        return
    asked = _named(given)
    named = [
        f"{flag(name)} {beginning(value, 60)}"
        for name, value in _named(args).items()
        if value != asked.get(name) and not (name in NETWORKS and is_embedded(value))
    ]
    if named:
        raise InputError(
            f"the recipe in {args.like} names {', '.join(named)}: give yourself what of this you trust, or "
            "--trust-recipe to take all of it"
        )


def is_embedded(name: str) -> bool:
    """True for a network that is part of the toolkit; no path is."""
    root = Path(__file__).parents[2]
    plain = name.replace("-", "").replace("_", "").isalnum()
    return plain and any(
        (root / package / "pretrained" / name / "config.json").is_file() for package in EMBEDDED
    )


def _named(args: Any) -> dict[str, str]:
    """The networks and files that flags name, of the tables in them too."""
    flat: dict[str, Any] = {}
    for name, value in asdict(args).items():
        flat |= value if isinstance(value, dict) else {name: value}
    named = {name: flat[name] for name in (*NETWORKS, *FILES) if flat.get(name)}
    # a list, whose entries are one text for the comparison and the message
    return {name: value if isinstance(value, str) else ", ".join(value) for name, value in named.items()}
