"""A part of a list: "3/64" is the third of 64. Imports nothing heavy."""

from __future__ import annotations

import re
from dataclasses import dataclass

from glide.utils.errors import InputError
from glide.utils.numbers import shown_number

FORM = re.compile(r"(\d{1,9})/(\d{1,9})")


@dataclass(frozen=True)
class Part:
    """Part `index` of `of`, counted from 1: neighbouring rows, and as many in each part as in another, or one more."""

    index: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Part:
        """The inverse of `str`. InputError for what is no such part."""
        match = FORM.fullmatch(text.strip())
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise InputError(
                f"got the part {shown_number(text)}, expected I/N, the I-th of N parts: write for example 3/64"
            )
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.index}/{self.of}"

    @property
    def name(self) -> str:
        """For files."""
        return f"part-{self.index:05d}-of-{self.of:05d}"

    def of_rows(self, count: int) -> range:
        """The rows of this part, of `count` in all."""
        return range((self.index - 1) * count // self.of, self.index * count // self.of)
