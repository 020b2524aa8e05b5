"""Forms with files, multipart/form-data (RFC 7578), from a body whose length is limited already.

The framework's own parser puts parts into temporary files, and leaves them open where a form is broken.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from glide.utils.errors import InputError

MOST_PARTS = 44
MOST_HEAD = 2000  # bytes of a part's headers
BOUNDARY = re.compile(
    r"^\s*multipart/form-data\s*;.*?\bboundary=(?:\"([^\"]{1,70})\"|([^\s;,\"]{1,70}))", re.I
)
NAME = re.compile(r"^content-disposition\s*:\s*form-data\s*;(.*)$", re.I | re.M)
FIELD = re.compile(r'(?:^|[;\s])(name|filename)\s*=\s*"((?:[^"\\]|\\.)*)"', re.I)


@dataclass(frozen=True)
class Part:
    """One field of a form."""

    name: str
    filename: str | None
    """None for a text."""
    data: bytes


def read_form(body: bytes, content_type: str) -> list[Part]:
    """The parts of a form. InputError for what is none."""
    match = BOUNDARY.match(content_type)
    if match is None:
        raise InputError(
            f"got a body of the type {content_type[:60]!r}, expected multipart/form-data with its boundary: send a form"
        )
    mark = b"\r\n--" + (match[1] or match[2]).encode("latin-1", "replace")
    _, *pieces = (b"\r\n" + body).split(mark, MOST_PARTS + 2)
    if not pieces or not pieces[-1].startswith(b"--"):
        raise InputError(
            f"got a form that breaks off, or has more than {MOST_PARTS} parts, expected a whole one: send it again"
        )
    return [_part(piece) for piece in pieces[:-1]]


def _part(piece: bytes) -> Part:
    head, found, data = piece.partition(b"\r\n\r\n")
    disposition = NAME.search(head.decode("utf-8", "replace")) if len(head) <= MOST_HEAD else None
    fields = (
        {} if disposition is None else {name.lower(): value for name, value in FIELD.findall(disposition[1])}
    )
    if not found or "name" not in fields:
        raise InputError("got a form with a part that has no name, expected one for each: send it again")
    return Part(fields["name"], fields.get("filename"), data)
