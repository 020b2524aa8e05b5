"""Inspect a data set picture by picture: its contents and its damage."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glide.data.aspect_buckets import Buckets, cropped_share
from glide.data.skipped_files import reasons, summary
from glide.data.stored_dataset import Source
from glide.utils.errors import InputError
from glide.utils.image_files import decode_picture
from glide.utils.picture_size import Size, size_text

SIDES = (32, 64, 128, 256, 512, 1024)
BAR_WIDTH = 40
RATIOS = (0.5, 0.8, 1.25, 2.0)
SHAPES = ("higher than 1:2", "1:2 to 4:5", "about square", "5:4 to 2:1", "wider than 2:1")


@dataclass
class AuditReport:
    """The contents of a data set and its damage."""

    total: int = 0
    usable: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    """Usable pictures by their short side: "64-127" -> their number."""
    shapes: dict[str, int] = field(default_factory=dict)
    """Usable pictures by the ratio of their sides: "wider than 2:1" -> their number."""
    cropped_by_squares: float = 0.0
    """Mean share of a usable picture that a square crop takes away."""
    buckets: dict[str, int] = field(default_factory=dict)
    """(asked for) Pictures of each aspect bucket, by its size: "96x64" -> their number."""
    cropped_by_buckets: float = 0.0
    """(asked for) Mean share of a picture that its bucket takes away."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Pictures that no table names, or of a format that is not read, with the reason."""
    captions: dict[str, float] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return len(self.broken) / max(self.total, 1)


@dataclass(frozen=True)
class Inspected:
    """One picture: its height and width and its caption or class, or its damage."""

    name: str
    size: Size = (0, 0)
    label: str | int = ""
    wrong: str = ""

    @property
    def side(self) -> int:
        """The short side."""
        return min(self.size)


def summarise(source: Source, seen: Sequence[Inspected], sizes: Sequence[Size] = ()) -> AuditReport:
    """Sum up all pictures of a data set. sizes: of aspect buckets into which they are put."""
    broken = {**source.problems, **{one.name: one.wrong for one in seen if one.wrong}}
    whole = [one for one in seen if not one.wrong]
    found = AuditReport(len(seen) + len(source.problems), len(whole), dict(sorted(broken.items())))
    found.left_out = dict(sorted(source.left_out.items()))
    sides = Counter(np.searchsorted(SIDES, [one.side for one in whole], side="right").tolist())
    found.sides = {_range(place): sides[place] for place in range(len(SIDES) + 1) if sides[place]}
    _add_shapes(found, np.array([one.size for one in whole], np.int64).reshape(-1, 2), sizes)
    if source.class_names:
        counts = Counter(one.label for one in whole)
        found.classes = {name: counts[label] for label, name in enumerate(source.class_names)}
    elif whole and source.captioned:
        words = sorted(len(str(one.label).split()) for one in whole)
        different = len({one.label for one in whole})
        found.captions = {
            "different": different,
            "words_median": words[len(words) // 2],
            "words_most": words[-1],
        }
    return found


def _add_shapes(found: AuditReport, shapes: NDArray[np.int64], sizes: Sequence[Size]) -> None:
    """Add what the shapes [N,2], height and width, of usable pictures say."""
    if not len(shapes):
        return
    places = Counter(np.searchsorted(RATIOS, shapes[:, 1] / shapes[:, 0]).tolist())
    found.shapes = {SHAPES[place]: places[place] for place in range(len(SHAPES)) if places[place]}
    found.cropped_by_squares = float(np.mean([cropped_share(one, (1, 1)) for one in shapes.tolist()]))
    if sizes:
        buckets = Buckets.of_shapes(shapes, sizes)
        found.buckets = dict(zip(map(size_text, buckets.sizes), buckets.counts, strict=True))
        found.cropped_by_buckets = buckets.cropped_in_all


def report(found: AuditReport, most: int) -> str:
    """The text for the screen, of any number of lines. most: broken pictures that it names."""
    lines = [f"{found.total} pictures: {found.usable} usable, {len(found.broken)} broken ({found.share:.2%})"]
    lines += [f"  {count:6} {reason}" for count, reason in reasons(found.broken)]
    names = list(found.broken)[:most]
    lines += [f"    {name}: {found.broken[name]}" for name in names]
    if len(found.broken) > len(names):
        lines.append(f"    and {len(found.broken) - len(names)} more (--list, --report)")
    if found.left_out:
        lines.append(f"left out: {summary(found.left_out)}")
        lines += [f"    {name}" for name in list(found.left_out)[:most]]
    if found.sides:
        lines.append("short side, pixels:")
        longest = max(found.sides.values())
        for name, count in found.sides.items():
            lines.append(f"  {name:>9} {count:8} {'#' * math.ceil(BAR_WIDTH * count / longest)}")
    if found.shapes:
        lines.append(
            f"shapes, width to height; a square crop takes {found.cropped_by_squares:.1%} of a picture away:"
        )
        lines += [f"  {name:>15} {count:8}" for name, count in found.shapes.items()]
    if found.buckets:
        lines.append(f"aspect buckets, which take {found.cropped_by_buckets:.1%} of a picture away:")
        lines += [f"  {name:>15} {count:8}" for name, count in found.buckets.items()]
    if found.captions:
        different, middle, longest_ = (f"{value:g}" for value in found.captions.values())
        lines.append(
            f"captions: {different} different, of {middle} words in the middle and {longest_} at most"
        )
    if found.classes:
        least, most_ = min(found.classes.values()), max(found.classes.values())
        lines.append(f"classes: {len(found.classes)}, of {least} to {most_} pictures")
    return "\n".join(lines)


def _range(place: int) -> str:
    if place == len(SIDES):
        return f"{SIDES[-1]}-"
    return f"{SIDES[place - 1] if place else 1}-{SIDES[place] - 1}"


def inspect_all(source: Source, workers: int) -> Iterator[Inspected]:
    """Inspect every picture, in the order of the data set; a few at a time are in memory."""
    with ThreadPoolExecutor(workers) as pool:
        for begin in range(0, len(source), 64 * workers):
            indices = range(begin, min(begin + 64 * workers, len(source)))
            yield from pool.map(lambda index: _inspect(source, index), indices)


def _inspect(source: Source, index: int) -> Inspected:
    name = source.name(index)
    try:
        label = caption_or_class(source, index)
        # decoded whole, at its full size: a truncated file shows only at its end
        picture, _ = decode_picture(source.read(index), name)
    except InputError as error:
        return Inspected(name, wrong=str(error))
    return Inspected(name, (picture.height, picture.width), label)


def caption_or_class(source: Source, index: int) -> str | int:
    """The caption of a picture, its class, or an empty text."""
    if source.captioned:
        return source.caption(index)
    return source.label(index) if source.class_names else ""
