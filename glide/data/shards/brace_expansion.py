"""Expand "shards/{0000..0999}.tar" to the names of the shards."""

from __future__ import annotations

import os
import re
from types import ModuleType

from glide.utils.errors import InputError
from glide.utils.filesystem import is_remote, matching

RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.-?(\d+))?")
MAX_SHARDS = 1_000_000
"""Limit on the names of a list; the largest public data sets have a quarter of that."""
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


def is_shards(spec: str) -> bool:
    """True for a `--data` argument that names tar files. InputError if these are compressed."""
    if spec.lower().endswith(COMPRESSED):
        raise InputError(
            f"got the compressed shards {spec}, expected plain .tar files, which can be read anywhere (pictures are "
            "compressed already): unpack them once with gunzip or the like"
        )
    return spec.lower().endswith(".tar")


def shard_names(spec: str) -> list[str]:
    """The shards of a `--data` argument, in order: one path or several joined by ::, local or remote.

    Each may have braces ({0000..0999}, {a,b}), which name shards that must exist, or *, ? and [...], which find
    existing ones. InputError, naming it, for a shard that is missing or named twice, or if nothing is found.
    """
    names: list[str] = []
    for part in _expanded(spec):
        if any(sign in part for sign in "*?["):
            found = matching(part)
            if not found:
                raise InputError(f"no file fits {part}: check the path")
            names += found
        else:
            names.append(part)
    twice = next(
        (name for name, after in zip(sorted(names), sorted(names)[1:], strict=False) if name == after), None
    )
    if twice is not None:
        raise InputError(f"{spec} names {twice} twice: its pictures would be learned twice as often")
    missing = [name for name in names if not is_remote(name) and not os.path.isfile(name)]
    if missing:
        raise InputError(
            f"{len(missing)} of the {len(names)} shards {spec} are not there, first {missing[0]}: correct the range"
        )
    return names


def _expanded(spec: str) -> list[str]:
    if not any(sign in spec for sign in ("{", "}", "::")):
        return [spec]
    if (count := _max_names(spec)) > MAX_SHARDS:
        raise InputError(
            f"{spec} names up to {count:.3g} shards, expected at most {MAX_SHARDS:,}: correct the range"
        )
    try:
        return webdataset().shardlists.expand_urls(spec)
    except ValueError as error:
        raise InputError(
            f"{spec} is no list of shards ({error}): write {{0000..0999}} for a range, or {{a,b}}"
        ) from error


def _max_names(spec: str) -> float:
    """An upper bound on the names that a list's braces stand for, counted without making them."""
    count, open_at, commas = 1.0, [0], [0]
    for place, sign in enumerate(spec):
        if sign == "{":
            open_at.append(place + 1)
            commas.append(0)
        elif sign == ",":
            commas[-1] += 1
        elif sign == "}" and len(open_at) > 1:
            ends = RANGE.fullmatch(spec[open_at.pop() : place])
            several = commas.pop() + 1
            count *= _length(*ends.groups()) if ends else several
    return count


def _length(first: str, last: str, step: str | None) -> float:
    """The count of numbers in a range such as 0..99..3, of any number of digits."""
    return abs(float(last) - float(first)) / max(float(step or 1), 1) + 1


def webdataset() -> ModuleType:
    """The webdataset library, which is an extra. InputError if it is not installed."""
    try:
        import webdataset.shardlists
        import webdataset.writer
    except ImportError:
        raise InputError(
            "braces in the names of shards, and writing shards, need webdataset, which is not installed: "
            "pip install 'glide-toolkit[shards]', or name shards by *.tar"
        ) from None
    return webdataset
