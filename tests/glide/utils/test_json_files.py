"""The one reader of JSON: what it takes, and the sentence for what it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from glide.utils.errors import InputError
from glide.utils.json_files import MAX_DEPTH, as_table, parse_json, read_json, read_lines, read_table

REFUSED = {
    "[" * 100_000: "nested more than 64 deep",
    '{"a":' * 100_000 + "1" + "}" * 100_000: "nested more than 64 deep",
    "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1): "nested more than 64 deep",
    "1" * 5000: "the number 11111111111111111111... is too large",
    "-" + "1" * 5000: "too large",
    str(2**64): "too large",
    "1e999": "the number 1e999 is too large",
    "[NaN]": "NaN is not a number of JSON",
    "-Infinity": "-Infinity is not a number of JSON",
    '{"a": 1, "b": {"c": 1, "c": 2}}': "the key 'c' stands twice in one object",
    "": "Expecting value in line 1, column 1",
    '{"a": 1} x': "Extra data in line 1, column 10",
    "[1,\n 2": "in line 2",
    '{"a": "\x01"}': "Invalid control character",
}


@pytest.mark.parametrize("text", list(REFUSED), ids=lambda text: text[:12])
def test_refused(text: str) -> None:
    for form in (text, text.encode()):
        with pytest.raises(InputError) as error:
            parse_json(form, "some.json")
        said = str(error.value)
        assert said.startswith("some.json is not JSON that can be read (") and REFUSED[text] in said
        assert len(said) < 300


def test_bytes_that_are_no_utf8() -> None:
    for data in (b'{"a": "\xff"}', '{"a": 1}'.encode("utf-16")):
        with pytest.raises(InputError, match=r"it is not UTF-8 text: .* at byte "):
            parse_json(data, "x")


def test_read_as_json_reads(tmp_path: Path) -> None:
    value: dict[str, Any] = {"": [1, -(2**63), 2**64 - 1, 0.1, 1e-320, True, None, "\ud800 ☂", {"a": []}]}
    text = json.dumps(value)
    assert parse_json(text, "x") == value
    assert parse_json(b"\xef\xbb\xbf" + text.encode(), "x") == value
    assert parse_json("\ufeff" + text, "x") == value
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert json.dumps(parse_json(deepest, "x")) == deepest
    wide = [[i] for i in range(1000)]
    assert parse_json(json.dumps(wide), "x") == wide
    path = tmp_path / "a.json"
    path.write_text(text)
    assert read_json(path) == read_table(path) == value


def test_files_that_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot read .*No such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(InputError, match="is not a regular file"):
        read_json(tmp_path)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for endless in (pipe, Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a regular file"):
            read_json(endless)
    large = tmp_path / "large.json"
    large.write_text("[" + "1," * 100 + "1]")
    with pytest.raises(InputError, match="has 203 bytes, expected at most 100"):
        read_json(large, max_bytes=100)


def test_a_table() -> None:
    for value, kind in ([1], "a list"), ("x", "a text"), (None, "null"), (True, "true"), (2.5, "a number"):
        with pytest.raises(InputError, match=f"x holds {kind}, expected a JSON object"):
            as_table(value, "x")


def test_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert read_lines(path) == []
    path.write_bytes(
        b'{"step": 1}\n\xff\n[1]\n{"step": "2"}\n{"step": NaN}\n' + b"[" * 10**5 + b'\n{"step": 3}\n{"st'
    )
    assert read_lines(path, step=int) == [{"step": 1}, {"step": 3}]
    assert len(read_lines(path)) == 3
