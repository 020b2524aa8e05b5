"""Read untrusted JSON.

Python's own reader accepts more than JSON and fails in many ways. Here deep nesting, numbers out of range, duplicate
keys and text that is not UTF-8 are an `InputError` in one sentence.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.printable import beginning

MAX_BYTES = 2**28
"""Limit on a file; the largest that this toolkit writes, a shard's index, has some 200 bytes a picture."""
MAX_DEPTH = 64  # of nested lists and tables; this toolkit's own files have 5
_MAX_DIGITS = 20


def read_json(path: str | Path, what: str = "", max_bytes: int = MAX_BYTES) -> Any:
    """The value in a JSON file, local or remote.

    what: the kind of file, for the message, as in "a model's config". max_bytes: limit on its bytes.
    InputError if it is no regular file, is larger, cannot be read, or is not JSON (see `parse_json`).
    """
    return parse_json(read_bytes(path, max_bytes), f"{path} ({what})" if what else path)


def read_table(path: str | Path, what: str = "", max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON file, as `read_json` does, that holds a table: {"name": value, ...}."""
    return as_table(read_json(path, what, max_bytes), f"{path} ({what})" if what else path)


def read_lines(path: str | Path, **fields: type) -> list[dict[str, Any]]:
    """The tables in a file of JSON lines; empty if there is no file.

    fields: required fields with their types. A line without them, or one that is not JSON (the last one is truncated if
    the writer was killed), is left out. InputError if the file cannot be read.
    """
    if not Path(path).exists():
        return []
    found = []
    for line in read_bytes(path, MAX_BYTES).decode("utf-8", errors="replace").splitlines():
        with suppress(InputError):
            entry = as_table(parse_json(line, path), path)
            if all(isinstance(entry.get(name), kind) for name, kind in fields.items()):
                found.append(entry)
    return found


def parse_json(text: str | bytes, name: object) -> Any:
    """The value of a JSON text; bytes are UTF-8, with or without a byte order mark.

    name: its source, for the message. InputError, in one sentence, for text that is not JSON, lists and tables more
    than 64 deep, duplicate keys in one table, NaN and Infinity, and numbers beyond 64 bits.
    """
    try:
        written = text.decode("utf-8") if isinstance(text, bytes) else text
        value = _DECODER.decode(written.removeprefix("\ufeff"))
    except json.JSONDecodeError as error:
        raise _not_json(name, f"{error.msg} in line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError as error:
        raise _not_json(name, f"it is not UTF-8 text: {error.reason} at byte {error.start}") from None
    except _Rejected as error:
        raise _not_json(name, str(error)) from None
    except RecursionError:
        raise _not_json(name, _TOO_DEEP) from None
    # Only a text with so many brackets can be too deep.
    if written.count("[") + written.count("{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise _not_json(name, _TOO_DEEP)
    return value


def as_table(value: Any, name: object) -> dict[str, Any]:
    """A JSON value as a table: {"name": value, ...}. InputError for any other value."""
    if not isinstance(value, dict):
        raise InputError(f"{name} holds {kind_of(value)}, expected a JSON object {{...}}: give such a file")
    return value


def kind_of(value: Any) -> str:
    """The kind of a JSON value, for a message: "a list", "a text", ..."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds: dict[type, str] = {
        dict: "an object",
        list: "a list",
        str: "a text",
        int: "a number",
        float: "a number",
    }
    return kinds.get(type(value), type(value).__name__)


class _Rejected(Exception):
    """JSON that is rejected. The message is the reason."""


_TOO_DEEP = f"lists and objects are nested more than {MAX_DEPTH} deep"


def _not_json(name: object, reason: str) -> InputError:
    return InputError(f"{name} is not JSON that can be read ({reason}): correct it or write it again")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    pairs = list(pairs)
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Rejected(f"the key {beginning(twice, 40)!r} stands twice in one object")
    return table


def _int(digits: str) -> int:
    if len(digits) <= _MAX_DIGITS + 1 and -(2**63) <= (value := int(digits)) < 2**64:
        return value
    raise _Rejected(f"the number {beginning(digits, 23)} is too large")


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Rejected(f"the number {beginning(digits, 23)} is too large")
    return value


def _constant(name: str) -> float:
    raise _Rejected(f"{name} is not a number of JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_int, parse_float=_float, parse_constant=_constant
)


def _depth(value: Any) -> int:
    """The depth of nested lists and tables, without recursion, which has its own limit."""
    depth, level = 0, [value] if isinstance(value, list | dict) else []
    while level:
        depth += 1
        inside = (
            child for parent in level for child in (parent if isinstance(parent, list) else parent.values())
        )
        level = [child for child in inside if isinstance(child, list | dict)]
    return depth
