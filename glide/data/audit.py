"""What a data set holds and what is wrong with it, picture by picture: what scripts/check_data.py calls."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from glide.data.datasets import MAX_BROKEN, GeneratedData, is_generated, open_data, open_source
from glide.data.shards.dataset import Shards
from glide.data.shards.index_cache import write_index_beside
from glide.data.skipped_files import reasons, summary
from glide.data.stored_dataset import Source
from glide.utils.atomic_write import write_text
from glide.utils.contact_sheet import contact_sheet, sheet_size
from glide.utils.errors import InputError
from glide.utils.file_locks import check_free, write_beside
from glide.utils.image_files import check_output, decode_picture
from glide.utils.images import Pixels, on_white, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from glide.utils.resize import square_picture

SIDES = (32, 64, 128, 256, 512, 1024)
BAR = 40


@dataclass(frozen=True)
class CheckData:
    """What is to be checked, and how."""

    data: str
    """WebDataset shards ("shards/{0000..0999}.tar"), a folder of captioned pictures or of class folders, or shapes."""
    sheet: Path | None = None
    """Write a contact sheet there: a PNG of pictures with their captions."""
    pictures: int = 48
    """On the contact sheet, chosen by --seed."""
    size: int = 128
    """Height and width of its pictures."""
    seed: int = 0
    report: Path | None = None
    """Write all that was found there, as JSON: every broken picture with its reason."""
    list: int = 20
    """Broken pictures that are named on the screen."""
    unconditional: bool = False
    """Take all pictures, as a training with this flag does, whatever is said of them."""
    max_broken: float = MAX_BROKEN
    """Share of broken pictures that a training would take; more is an error here too."""
    write_index: bool = False
    """Of shards: keep their indices beside them, so that no other machine has to read the headers again."""
    workers: int = 4
    overwrite: bool = False
    """Replace a contact sheet or a report that is there already."""


@dataclass
class Found:
    """What a data set holds."""

    total: int = 0
    usable: int = 0
    broken: dict[str, str] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    """Usable pictures by their short side: "64-127" -> how many."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Pictures that no caption names, or of a format that is not read, with the reason."""
    captions: dict[str, float] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    @property
    def share(self) -> float:
        return len(self.broken) / max(self.total, 1)


@dataclass(frozen=True)
class _Seen:
    """One picture: its short side and what is told of it, or what is wrong with it."""

    name: str
    side: int = 0
    told: str | int = ""
    wrong: str = ""


def check_data(args: CheckData) -> Found:
    """Read every picture, print what was found, write sheet and report.

    InputError for a data set that cannot be opened, settings that do not fit, and where more is broken than may be.
    """
    check_numbers(args)
    if args.sheet is not None:
        check_output(args.sheet, args.overwrite)
    if args.report is not None:
        check_free(args.report, args.overwrite)
        if args.report == args.sheet:
            raise InputError(f"got {args.report} for --sheet and --report, expected two names: give another")
    if is_generated(args.data):
        return _check_generated(args)
    source = open_source(args.data, args.unconditional)
    if args.sheet is not None and len(source):
        sheet_size(min(args.pictures, len(source)), args.size, args.size)
    if args.write_index:
        if not isinstance(source, Shards):
            raise InputError(f"--write-index: {args.data} is a folder, expected shards, which have an index")
        for path in source.paths:
            write_index_beside(path)
    seen = list(progress(_see_all(source, args.workers), total=len(source), desc="reading", unit="picture"))
    found = summed(source, seen)
    say(told(found, args.list), result=True)
    whole = [index for index, one in enumerate(seen) if not one.wrong]
    if args.sheet is not None and whole:
        _show(args, source, whole)
    if args.report is not None:
        text = json.dumps(asdict(found), indent=1, ensure_ascii=False) + "\n"
        write_beside(args.report, partial(write_text, text=text, replace=args.overwrite))
    if found.share > args.max_broken or not whole:
        raise InputError(
            f"{len(found.broken)} of {found.total} pictures in {args.data} are broken, more than the "
            f"{args.max_broken:.2%} that may be: a training would stop, unless with a higher --max-broken"
        )
    return found


def summed(source: Source, seen: Sequence[_Seen]) -> Found:
    """The sums over all pictures."""
    broken = {**source.problems, **{one.name: one.wrong for one in seen if one.wrong}}
    whole = [one for one in seen if not one.wrong]
    found = Found(len(seen) + len(source.problems), len(whole), dict(sorted(broken.items())))
    found.left_out = dict(sorted(source.left_out.items()))
    sides = Counter(np.searchsorted(SIDES, [one.side for one in whole], side="right").tolist())
    found.sides = {_range(place): sides[place] for place in range(len(SIDES) + 1) if sides[place]}
    if source.class_names:
        counts = Counter(one.told for one in whole)
        found.classes = {name: counts[label] for label, name in enumerate(source.class_names)}
    elif whole and source.captioned:
        words = sorted(len(str(one.told).split()) for one in whole)
        different = len({one.told for one in whole})
        found.captions = {
            "different": different,
            "words_median": words[len(words) // 2],
            "words_most": words[-1],
        }
    return found


def told(found: Found, most: int) -> str:
    """What is printed."""
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
            lines.append(f"  {name:>9} {count:8} {'#' * math.ceil(BAR * count / longest)}")
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


def _see_all(source: Source, workers: int) -> Iterator[_Seen]:
    """Every picture in the order in which it lies; few at a time are in memory."""
    with ThreadPoolExecutor(workers) as pool:
        for begin in range(0, len(source), 64 * workers):
            indices = range(begin, min(begin + 64 * workers, len(source)))
            yield from pool.map(lambda index: _see(source, index), indices)


def _see(source: Source, index: int) -> _Seen:
    name = source.name(index)
    try:
        told = _told(source, index)
        # all of it, at its full size: that a file is cut off is seen at its end
        picture, _ = decode_picture(source.read(index), name)
    except InputError as error:
        return _Seen(name, wrong=str(error))
    return _Seen(name, min(picture.size), told)


def _told(source: Source, index: int) -> str | int:
    """The caption of a picture, its class, or nothing."""
    if source.captioned:
        return source.caption(index)
    return source.label(index) if source.class_names else ""


def _show(args: CheckData, source: Source, whole: Sequence[int]) -> None:
    """Write the contact sheet of some of the pictures that can be decoded."""
    order = np.random.default_rng(args.seed).permutation(len(whole))[: args.pictures]
    chosen = [whole[place] for place in sorted(order.tolist())]
    pictures, captions = [], []
    for index in chosen:
        picture = on_white(decode_picture(source.read(index), source.name(index))[0])
        pictures.append(np.array(square_picture(picture, args.size)))
        said = _told(source, index)
        captions.append(source.class_names[said] if isinstance(said, int) else said)
    _write_sheet(args, np.stack(pictures), captions)


def _write_sheet(args: CheckData, pictures: Pixels, captions: Sequence[str]) -> None:
    assert args.sheet is not None
    sheet = contact_sheet(pictures, captions)
    path = write_beside(args.sheet, partial(save_png, image=sheet, replace=args.overwrite))
    say(f"{len(captions)} pictures with their captions: {path}")


def _check_generated(args: CheckData) -> Found:
    """The built-in scenes are drawn on demand: there is nothing that could be broken."""
    if args.write_index:
        raise InputError(
            f"--write-index: {args.data} is drawn on demand, expected shards, which have an index"
        )
    if args.sheet is not None:
        sheet_size(args.pictures, args.size, args.size)
    data = open_data(args.data, args.size, seed=args.seed)
    assert isinstance(data, GeneratedData)
    say(f"{args.data}: scenes drawn on demand, in any number; none can be broken")
    if args.sheet is not None:
        batch = data.batch(0, args.pictures)
        _write_sheet(args, batch["image"].permute(0, 2, 3, 1), batch["caption"])
    return Found()
