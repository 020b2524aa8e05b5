"""Caption tables in a folder of pictures: captions.csv, and metadata.csv and metadata.jsonl of Hugging Face."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from glide.utils.captions import decode_text
from glide.utils.errors import InputError
from glide.utils.filesystem import read_bytes
from glide.utils.json_files import parse_json
from glide.utils.printable import few

TABLES = {
    "captions.csv": ("file", "caption"),
    "metadata.csv": ("file_name", "text"),
    "metadata.jsonl": ("file_name", "text"),
}
"""Names of tables with their default columns; other names of COLUMNS are accepted too."""
COLUMNS = (
    ("file", "file_name", "filename", "image", "image_path", "image_file", "path"),
    ("caption", "text", "prompt", "description"),
)
"""Names of the columns for the picture's file and its caption, in any case."""
SEPARATORS = ",;\t"
MAX_TABLE_BYTES = 2**29  # some millions of rows; shards suit more pictures better


class Row(NamedTuple):
    """A row of a table."""

    file: str
    caption: str
    where: str
    """File and line, for messages."""


def read_table(path: str) -> Iterator[Row]:
    """The rows of a table, local or remote, whose name is one of TABLES.

    InputError for one that cannot be read, has over LARGEST_TABLE bytes, or lacks a column or a value.
    """
    text = decode_text(read_bytes(path, MAX_TABLE_BYTES), path)
    default = TABLES[path.replace("\\", "/").rsplit("/", 1)[-1].lower()]
    return (
        _jsonl_rows(path, text, default)
        if path.lower().endswith(".jsonl")
        else _csv_rows(path, text, default)
    )


def _csv_rows(path: str, text: str, default: Sequence[str]) -> Iterator[Row]:
    line = 1
    try:
        reader, header, columns = _opened(text, default)
        if columns is None:
            found = few(header) or "none"
            raise InputError(
                f"{path} has the columns {found}, expected {','.join(default)}: add that first line"
            )
        for values in reader:
            line = reader.line_num
            where = f"{path} line {line}"
            if any(value.strip() for value in values[len(header) :]):
                raise InputError(
                    f"{where} has {len(values)} values, expected {len(header)}: put a caption with a separator in it "
                    'between quotation marks ("a ring, red")'
                )
            if values:
                file, caption = (values[at] if at < len(values) else None for at in columns)
                yield _row(file, caption, default, where)
    except csv.Error as error:
        raise InputError(f"{path} line {line} is not CSV ({error}): correct it") from error


def _opened(text: str, default: Sequence[str]) -> tuple[Any, list[str], list[int] | None]:
    """A reader after the header, the header, and the indices of both columns, by the separator that gives both."""
    first: list[str] = []
    for separator in SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        header = next((values for values in reader if values), [])
        names = [name.strip().lower() for name in header]
        columns = [_first(names, among) for among in _names(default)]
        if None not in columns:
            return reader, header, [names.index(str(name)) for name in columns]
        first = first or header
    return reader, first, None


def _jsonl_rows(path: str, text: str, default: Sequence[str]) -> Iterator[Row]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        values = parse_json(line, where)
        values = (
            {key.strip().lower(): value for key, value in values.items()} if isinstance(values, dict) else {}
        )
        file, caption = (values.get(_first(values, among)) for among in _names(default))
        yield _row(file, caption, default, where)


def _names(default: Sequence[str]) -> list[Sequence[str]]:
    """The accepted names of the two columns, the table's defaults first."""
    return [(name, *others) for name, others in zip(default, COLUMNS, strict=True)]


def _first(found: Sequence[str] | Mapping[str, object], among: Sequence[str]) -> str | None:
    return next((name for name in among if name in found), None)


def _row(file: object, caption: object, default: Sequence[str], where: str) -> Row:
    if not isinstance(file, str) or not isinstance(caption, str):
        raise InputError(f"{where} lacks {default[0]} or {default[1]}: give both, as text")
    return Row(file, caption, where)
