"""Sizes of pictures: texts are WIDTHxHEIGHT, as in "96x64"; in code they are (H, W), as in shapes of tensors.

Imports nothing heavy, as flags read sizes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from glide.utils.errors import InputError
from glide.utils.numbers import Range, shown_number

Size = tuple[int, int]
"""(H, W) in pixels."""
SIDE = Range(1, 16384)
FAR = 1.25
"""Times that a side may differ from a size of the training before that is said."""


def parse_size(text: object, name: str = "--size") -> Size:
    """Read "96x64", 96 wide and 64 high, or "64" of a square. name: of the flag, for messages.

    InputError for another text, and for sides out of range.
    """
    parts = text.lower().split("x") if isinstance(text, str) else []
    if not (1 <= len(parts) <= 2 and all(part.isascii() and part.isdigit() for part in parts)):
        raise InputError(
            f"got {name} {shown_number(text)}, expected WIDTHxHEIGHT in pixels: write for example 96x64, or 64 for a "
            "square"
        )
    width, height = (SIDE.read_whole(part, name) for part in (parts[0], parts[-1]))
    return height, width


def is_plain(text: str) -> bool:
    """True for one number, which is the side of a square."""
    return "x" not in text.lower()


def size_text(size: Size) -> str:
    """WIDTHxHEIGHT of (H, W)."""
    return f"{size[1]}x{size[0]}"


def recorded_size(size: Size) -> int | str:
    """A size as a recipe holds it: the side of a square, else WIDTHxHEIGHT."""
    return size[0] if size[0] == size[1] else size_text(size)


def check_multiple(size: Size, multiple: int, name: str = "--size", of: str = "the network") -> Size:
    """The size. InputError, with the nearest possible one, where a side is no multiple of what the network halves."""
    if size[0] % multiple or size[1] % multiple:
        height, width = (max(round(side / multiple), 1) * multiple for side in size)
        raise InputError(
            f"got {name} {size_text(size)}, expected multiples of {multiple}, by which {of} scales its pictures down: "
            f"write {size_text((height, width))}"
        )
    return size


def difference(size: Size, other: Size) -> float:
    """Times that two sizes differ in height or width, from 1, in the side where they differ most."""
    return math.exp(max(abs(math.log(a / b)) for a, b in zip(size, other, strict=True)))


def is_far(size: Size, trained: Iterable[Size]) -> bool:
    """True where a size differs from all those of a training by more than FAR."""
    return min(difference(size, one) for one in trained) > FAR
