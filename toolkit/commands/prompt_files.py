"""Files of captions: text, one a line; JSON lines; Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from glide.utils.captions import decode_text
from glide.utils.errors import InputError, reason_of
from glide.utils.json_files import parse_json
from glide.utils.numbers import shown_number, whole
from glide.utils.ranges import MAX_SEED

LARGEST = 2**30  # bytes: ten million captions
CAPTION_KEYS = ("prompt", "caption", "text")
"""Names of the caption in a JSON line or a column, the first that is there."""


@dataclass(frozen=True)
class Row:
    """One row of a list of captions."""

    caption: str
    label: int | None = None
    seed: int | None = None
    """None: counted from the run's seed."""


def read_rows(path: str) -> list[Row]:
    """The rows of a .jsonl, .parquet or text file, of which empty lines are left out.

    A JSON line, or a row of a table, has a "prompt" (or "caption" or "text") and, if it likes, a "seed". InputError
    for a file that cannot be read, has no captions, or rows without one.
    """
    lower = path.lower()
    if lower.endswith((".parquet", ".pq")):
        rows = [_row(values, f"row {i} of {path}") for i, values in enumerate(_parquet(path))]
    else:
        lines = _lines(path)
        if lower.endswith((".jsonl", ".ndjson")):
            rows = [_row(_table(line, where), where) for line, where in lines]
        else:
            rows = [Row(line) for line, _ in lines]
    if not rows:
        raise InputError(f"{path} holds no captions, expected one a line: write some")
    return rows


def _lines(path: str) -> list[tuple[str, str]]:
    """The lines that are not empty, each with its place for messages."""
    from glide.utils.filesystem import read_bytes

    lines = enumerate(decode_text(read_bytes(path, LARGEST), path).splitlines(), 1)
    return [(line.strip(), f"line {number} of {path}") for number, line in lines if line.strip()]


def _table(line: str, where: str) -> Mapping[str, Any]:
    values = parse_json(line, where)
    if not isinstance(values, dict):
        raise InputError(f"{where} is no JSON object, expected one with a prompt: correct it")
    return values


def _row(values: Mapping[str, Any], where: str) -> Row:
    caption = next((values[key] for key in CAPTION_KEYS if key in values), None)
    if not isinstance(caption, str):
        raise InputError(
            f"{where} has the prompt {shown_number(caption)}, expected a text under {' or '.join(CAPTION_KEYS)}: add it"
        )
    seed = values.get("seed")
    if seed is not None:
        seed = whole(seed, f"the seed in {where}", 0, MAX_SEED)
    return Row(" ".join(caption.split()), None, seed)


def _parquet(path: str) -> Iterable[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(
            f"got {path} without the package pyarrow, expected it: pip install 'glide-toolkit[parquet]'"
        ) from error
    try:
        names = parquet.read_schema(path).names
        columns = [name for name in (*CAPTION_KEYS, "seed") if name in names]
        return list(parquet.read_table(path, columns=columns).to_pylist())
    except Exception as error:  # of pyarrow's own many kinds
        raise InputError(
            f"{path} cannot be read as Parquet ({reason_of(error)}): give another file"
        ) from error
