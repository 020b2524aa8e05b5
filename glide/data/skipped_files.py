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
_VARIABLE_PARTS = re.compile(r"(?<![\w-])\d+\b|\S+\.(?=(?:txt|json|cls|csv|jsonl)\b)")
"""The parts in which reasons of one kind differ: numbers, but not those in UTF-8, and names of caption files."""


def record_broken(out: Path, broken: Mapping[str, str]) -> dict[str, str]:
    """Add newly found pictures to the run's broken.jsonl; returns all that it holds, by name, with the reason.

    Each process writes its own file (broken-1.jsonl, ...), because each reads other pictures; the result joins all of
    them. Damaged lines are left out. InputError if the file cannot be written.
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


def report_broken(out: Path) -> None:
    """Print one line about the pictures that all processes of a run skipped, if any."""
    every = record_broken(out, {})
    if every:
        say(f"{len(every)} pictures were skipped, listed in {out / NAME}.jsonl: {summary(every)}")


def summary(broken: Mapping[str, str]) -> str:
    """The reasons with their counts, the most frequent ones first."""
    return ", ".join(f"{count} {reason}" for count, reason in reasons(broken))


def reasons(broken: Mapping[str, str]) -> list[tuple[int, str]]:
    """The reasons with their counts, without the names of pictures and the advice.

    Reasons that differ only in numbers or file names count as one, with "..." in their place.
    """
    alike: dict[str, list[str]] = {}
    for name, reason in broken.items():
        said = " ".join(reason.replace(name, "").split(": ")[0].split())
        alike.setdefault(_VARIABLE_PARTS.sub("...", said), []).append(said)
    counted = [(len(said), said[0] if len(set(said)) == 1 else form) for form, said in alike.items()]
    return sorted(counted, key=lambda one: -one[0])


def _read(path: Path) -> dict[str, str]:
    return {entry["file"]: entry["reason"] for entry in read_lines(path, file=str, reason=str)}
