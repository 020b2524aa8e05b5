"""The name of an emoji: its Unicode name, or for a sequence of code points the names of its parts.

    name_of((0x1F600,))                                    # "grinning face"
    name_of((0x1F3C3, 0x1F3FF, 0x200D, 0x2640))            # "female runner with dark skin"
    name_of((0x1F1F3, 0x1F1F4))                            # "flag of norway"

The names are those of Python's own Unicode data, so a newer Python knows more of the newest emoji.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

JOINER, VARIATION, KEYCAP, BLACK_FLAG = 0x200D, 0xFE0F, 0x20E3, 0x1F3F4
TAGS, END_TAG = range(0xE0020, 0xE007F), 0xE007F
LETTERS = range(0x1F1E6, 0x1F200)  # regional indicators: two are a flag
SKINS = {
    0x1F3FB: "light",
    0x1F3FC: "medium-light",
    0x1F3FD: "medium",
    0x1F3FE: "medium-dark",
    0x1F3FF: "dark",
}
GENDERS = {0x2640: "female", 0x2642: "male"}
HAIR = range(0x1F9B0, 0x1F9B4)
RIGHTWARDS = 0x27A1
CHILDREN = (0x1F466, 0x1F467, 0x1F9D2)
PEOPLE = (*CHILDREN, 0x1F468, 0x1F469, 0x1F9D1)
HEART = 0x2764
# What a sequence may add to its first part: signs, tools of a trade, hair, weather, colours, ...
ADDED = (
    *(
        0x2620,
        0x2640,
        0x2642,
        0x2695,
        0x2696,
        0x26A7,
        0x2708,
        0x2744,
        0x27A1,
        0x2B1B,
        0x1F308,
        0x1F32B,
        0x1F33E,
    ),
    *(
        0x1F373,
        0x1F37C,
        0x1F384,
        0x1F393,
        0x1F3A4,
        0x1F3A8,
        0x1F3EB,
        0x1F3ED,
        0x1F48B,
        0x1F4A8,
        0x1F4AB,
        0x1F4BB,
    ),
    *(0x1F4BC, 0x1F525, 0x1F527, 0x1F52C, 0x1F5E8, 0x1F680, 0x1F692, 0x1F7E9, 0x1F7EB, 0x1F91D, 0x1F9AF),
    *(0x1F9B0, 0x1F9B1, 0x1F9B2, 0x1F9B3, 0x1F9BA, 0x1F9BC, 0x1F9BD, 0x1FA79),
)


def kind_of(points: Sequence[int]) -> str:
    """single, keycap, flag, skin (with a colour of skin, joined or not) or joined."""
    if points[-1] == KEYCAP:
        return "keycap"
    if len(points) > 1 and (points[0] in LETTERS or points[-1] == END_TAG):
        return "flag"
    if any(point in SKINS for point in points[1:]):
        return "skin"
    return "single" if len(points) == 1 else "joined"


def in_order(points: Sequence[int]) -> bool:
    """True for a sequence as people write it: fonts have some in the order of right-to-left text, too."""
    parts = _split(points)
    misplaced = any(
        skin in SKINS and (i == 0 or points[i - 1] in (JOINER, *SKINS)) for i, skin in enumerate(points)
    )
    lone = len(points) > 1 and points[0] in (*SKINS, END_TAG, *TAGS)
    flag = points[-1] == END_TAG and len(points) < 4
    backwards = len(parts) > 1 and parts[0][0] in ADDED
    if len(parts) > 1 and all(part[0] in PEOPLE for part in parts):
        backwards = parts[0][0] in CHILDREN
    if len(parts) == 2 and parts[1][0] == HEART:
        backwards = True
    return not ((misplaced and len(points) > 1) or lone or flag or backwards)


def name_of(points: Sequence[int]) -> str | None:
    """The name in lower case; None where Python's Unicode data has none for a part. Variation selectors say nothing."""
    points = [point for point in points if point != VARIATION]
    kind = kind_of(points)
    if kind == "keycap":
        digit = _name(points[0])
        return None if digit is None else f"keycap {digit}"
    if kind == "flag":
        return _flag(points)
    parts = _split(points)
    names = [_part(part) for part in parts]
    if any(name is None for name in names):
        return None
    return _joined(parts, [name for name in names if name is not None])


def _flag(points: Sequence[int]) -> str:
    if points[-1] == END_TAG:
        code = "".join(chr(point - 0xE0000) for point in points[1:-1])
    else:
        code = "".join(chr(point - LETTERS[0] + ord("A")) for point in points)
    region = regions().get(code)
    return f"flag of {region}" if region is not None else f"flag with the letters {' '.join(code.lower())}"


def _split(points: Sequence[int]) -> list[list[int]]:
    parts: list[list[int]] = [[]]
    for point in points:
        if point == JOINER:
            parts.append([])
        else:
            parts[-1].append(point)
    return [part for part in parts if part]


def _part(points: Sequence[int]) -> str | None:
    """One code point, and the colour of its skin."""
    name = _name(points[0])
    if name is None:
        return None
    skins = [SKINS[point] for point in points[1:] if point in SKINS]
    return f"{name} with {skins[0]} skin" if skins else name


def _joined(parts: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    first, before, after, others = names[0], "", "", []
    if len(parts) > 1 and all(part[0] in PEOPLE for part in parts):
        return f"family of {', '.join(names[:-1])} and {names[-1]}"
    for part, name in zip(parts[1:], names[1:], strict=True):
        if part[0] in GENDERS:
            before = f"{GENDERS[part[0]]} "
        elif part[0] == RIGHTWARDS:
            after = " facing right"
        elif part[0] in HAIR:
            others.append(name.removeprefix("emoji component "))
        else:
            others.append(name)
    whole = f"{before}{first}"
    if others:
        whole += f"{' and' if ' with ' in whole else ' with'} {' and '.join(others)}"
    return whole + after


def _name(point: int) -> str | None:
    name = unicodedata.name(chr(point), None)
    return None if name is None else name.lower()


@lru_cache(maxsize=1)
def regions() -> dict[str, str]:
    """Names of countries and regions by their codes, in lower case."""
    lines = (Path(__file__).parent / "regions.txt").read_text("utf-8").splitlines()
    return {code: name.lower() for code, name in (line.split(" ", 1) for line in lines)}
