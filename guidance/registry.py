"""Guidances by name: the `ENTRY` of each file of this package, and those of other installed packages.

Imports nothing heavy, so that `--help` lists them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from glide.utils.entry_points import load_plug_in, plug_ins
from glide.utils.errors import InputError
from glide.utils.ranges import flag
from guidance.entry import GuidanceEntry, Interval
from guidance.spec import EVERYWHERE, GuidanceSpec

GROUP = "glide.guidance"
SHARED_OPTIONS = frozenset({"rescale", "threshold"})
"""Options that belong to no guidance alone."""
RERANK_OPTIONS = frozenset({"clip", "clip_vocab"})
"""Options of reranking by CLIP."""

NONE = GuidanceEntry("none", "no guidance", lambda inputs, scale, interval: [])


@cache
def built_in() -> dict[str, GuidanceEntry]:
    """The guidances of this package, by name: of each file that declares one."""
    folder = Path(__file__).parent
    entries = [NONE]
    for path in folder.rglob("*.py"):
        if "\nENTRY = GuidanceEntry(" in path.read_text("utf-8"):
            module = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
            entries.append(import_module(module).ENTRY)
    return {entry.name: entry for entry in sorted(entries, key=lambda entry: entry.name)}


@cache
def known() -> dict[str, GuidanceEntry]:
    """All guidances by name. A package cannot take a built-in name."""
    found = dict(built_in())
    for name, entry in plug_ins(GROUP).items():
        owner = entry.dist.name if entry.dist is not None else entry.value
        words, build = f"of the package {owner}", _build_by(entry)
        # its author knows which of the two it reads
        found.setdefault(name, GuidanceEntry(name, words, build, captions=True, labels=True))
    return found


def named(name: str) -> GuidanceEntry:
    """The guidance of that name. InputError, naming all there are, if there is none."""
    if name in built_in():
        return built_in()[name]
    if name not in known():
        raise InputError(f"got the guidance {name!r}, expected {' or '.join(known())}: choose one of these")
    return known()[name]


def with_default_scale(spec: GuidanceSpec, scale: float | None = None) -> GuidanceSpec:
    """The spec with a scale: its own, else `scale`, else the guidance's default."""
    if spec.scale is not None:
        return spec
    return replace(spec, scale=named(spec.name).scale if scale is None else scale)


def interval_of(spec: GuidanceSpec, steps: int) -> Interval:
    """The first and last of `steps` training timesteps at which a guidance acts: its default where none is given."""
    if spec.interval is not None:
        return spec.interval
    shares = named(spec.name).acts
    return EVERYWHERE if shares is None else (round(shares[0] * steps), round(shares[1] * steps))


def listing() -> str:
    """For --help: one line for each, with its default scale."""
    return "\n".join(
        name if entry.name == "none" else f"{name}:{entry.scale:g}  {entry.words}"
        for name, entry in known().items()
    )


def read_by(specs: Sequence[GuidanceSpec]) -> frozenset[str]:
    """The options that a list of guidances reads, without the shared ones."""
    return frozenset[str]().union(*(named(spec.name).reads for spec in specs))


def check_read(
    specs: Sequence[GuidanceSpec], given: dict[str, Any], also: frozenset[str] = frozenset()
) -> None:
    """InputError for an option that is given, but that no guidance of the list reads.

    given: `Options.given`. also: options that something else reads.
    """
    if any(spec.name not in built_in() for spec in specs):
        return  # another package's may read what it likes
    unread = sorted(set(given) - read_by(specs) - SHARED_OPTIONS - also)
    if unread:
        readers = " or ".join(
            f"--guidance {name}" for name, entry in built_in().items() if unread[0] in entry.reads
        )
        raise InputError(
            f"got {flag(unread[0])}, which belongs to a guidance that was not asked for, expected {readers}: add "
            "that one, or leave the flag out"
        )


def _build_by(entry: EntryPoint) -> Any:
    """The builder of another package, which is imported when it is used."""

    def build(inputs: Any, scale: float, interval: Interval) -> Any:
        found = load_plug_in(entry, "guidance")
        return (found.build if isinstance(found, GuidanceEntry) else found)(inputs, scale, interval)

    return build
