"""Additions of other installed packages, found by their entry points. Imports none of them until it is used."""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from glide.utils.errors import InputError, one_line


@cache
def plug_ins(group: str) -> dict[str, EntryPoint]:
    """Entry points of a group by name, in the order of the names; of several with one name, the first."""
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(group=group), key=lambda entry: entry.name):
        found.setdefault(entry.name, entry)
    return found


def names_of(group: str, built_in: Collection[str]) -> list[str]:
    """All names of a group: the built-in ones, which no package can take, then those of other packages."""
    return [*built_in, *(name for name in plug_ins(group) if name not in built_in)]


def load_plug_in(entry: EntryPoint, what: str) -> Any:
    """The object that an entry point leads to. what: its kind in the message, such as "preset".

    InputError, in one sentence, where it cannot be imported.
    """
    try:
        return entry.load()
    except Exception as error:  # importing another package's module can raise anything
        reason = one_line(error) or type(error).__name__
        raise InputError(
            f"the {what} {entry.name!r} cannot be loaded from {entry.value} ({reason}): install its package again"
        ) from error
