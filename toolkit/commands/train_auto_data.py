"""The facts of a data set that an automatic training is planned by: how many pictures, how large, described how."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from glide.data.audit import AuditReport, Inspected, inspect_all, report, summarise
from glide.data.datasets import is_generated, open_source
from glide.data.shards.brace_expansion import is_shards
from glide.data.skipped_files import MAX_BROKEN
from glide.data.stored_dataset import Source
from glide.utils.errors import InputError
from glide.utils.printable import few, say
from glide.utils.progress import progress
from toolkit.commands.train_auto_plan import FEWEST, LARGE, DataFacts, Described

WORKERS = 4


def check(data: str) -> tuple[DataFacts, AuditReport]:
    """Read every picture, and say what was found. InputError for data that a training cannot use."""
    if is_generated(data):
        raise InputError(
            f"got {data}, scenes without an end, expected pictures of your own: train them by scripts/train_base.py"
        )
    source, described = _open(data)
    seen = list(progress(inspect_all(source, WORKERS), total=len(source), desc="reading", unit="picture"))
    found = summarise(source, seen)
    say(report(found, 5))
    whole = [one for one in seen if not one.wrong]
    if found.share > MAX_BROKEN:
        raise InputError(
            f"got {data}, of whose {found.total} pictures {len(found.broken)} are broken "
            f"({few([f'{name}: {why}' for name, why in found.broken.items()], 2)}), expected at most {MAX_BROKEN:.0%}: "
            "mend or remove them (scripts/check_data.py lists all)"
        )
    if len(whole) < FEWEST:
        raise InputError(
            f"got {len(whole)} whole picture{'s' * (len(whole) != 1)} in {data}, expected {FEWEST} or more: add some"
        )
    return _facts(whole, len(found.broken), described), found


def _open(data: str) -> tuple[Source, Described]:
    """The pictures and the way in which they are described; those of a folder without any are taken as they are."""
    try:
        source: Source = open_source(data)
    except InputError as error:
        if is_shards(data) or "by --unconditional" not in str(error):
            raise
        return open_source(data, unconditional=True), "nothing"
    if source.class_names:
        return source, "classes"
    return source, "captions" if source.captioned else "nothing"


def _facts(whole: Sequence[Inspected], broken: int, described: Described) -> DataFacts:
    sides = sorted(one.side for one in whole)
    mark = hashlib.sha256()
    for one in sorted(whole, key=lambda one: one.name):
        mark.update(f"{one.name}\0{one.label}\0{one.side}\n".encode("utf-8", "backslashreplace"))
    return DataFacts(
        len(whole),
        broken,
        described,
        len({one.label for one in whole}),
        sum(side >= LARGE for side in sides),
        sides[len(sides) // 2],
        mark.hexdigest()[:16],
    )
