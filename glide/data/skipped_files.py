"""Pictures that a training skipped, with the reasons: printed at its end, and kept as broken.jsonl in its folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

from glide.utils.filesystem import write_bytes
from glide.utils.json_files import read_lines
from glide.utils.printable import say

NAME = "broken"
MAX_BROKEN = 0.05
"""Share of broken pictures that a training takes by default; with more it stops."""
_PARTICULAR = re.compile(r"(?<![\w-])\d+\b|\S+\.(?=(?:txt|json|cls|csv|jsonl)\b)")
"""The parts in which reasons of one kind differ: numbers, but not those in UTF-8, and names of caption files."""


def keep_broken(out: Path, broken: Mapping[str, str]) -> dict[str, str]:
    """Add to the run's broken.jsonl what was met since; returns all that it holds, by name, with the reason.

    Each process writes a file of its own (broken-1.jsonl, ...), because each meets other pictures; what is returned
    is of all of them. A line that is damaged is left out. InputError if the file cannot be written.
    """
    rank = int(os.environ.get("RANK", "0"))  # set by torchrun and accelerate
    path = out / (f"{NAME}-{rank}.jsonl" if rank else f"{NAME}.jsonl")
    mine = {**_read(path), **broken}
    if mine and mine != _read(path):
        lines = [json.dumps({"file": name, "reason": mine[name]}) for name in sorted(mine)]
        write_bytes(path, ("\n".join(lines) + "\n").encode())
    for other in sorted(out.glob(f"{NAME}*.jsonl")):
        mine = {**_read(other), **mine}
    return dict(sorted(mine.items()))


def tell_broken(out: Path) -> None:
    """One line on the screen where a run skipped any, of all its processes."""
    every = keep_broken(out, {})
    if every:
        say(f"{len(every)} pictures were skipped, listed in {out / NAME}.jsonl: {summary(every)}")


def summary(broken: Mapping[str, str]) -> str:
    """How often each reason was given, the most frequent ones first."""
    return ", ".join(f"{count} {reason}" for count, reason in reasons(broken))


def reasons(broken: Mapping[str, str]) -> list[tuple[int, str]]:
    """The reasons without the names of their pictures and what to do, each with how often it was given.

    Reasons that differ in numbers or file names alone are one, with "..." in their place.
    """
    alike: dict[str, list[str]] = {}
    for name, reason in broken.items():
        said = " ".join(reason.replace(name, "").split(": ")[0].split())
        alike.setdefault(_PARTICULAR.sub("...", said), []).append(said)
    counted = [(len(said), said[0] if len(set(said)) == 1 else form) for form, said in alike.items()]
    return sorted(counted, key=lambda one: -one[0])


def _read(path: Path) -> dict[str, str]:
    return {entry["file"]: entry["reason"] for entry in read_lines(path, file=str, reason=str)}
