"""Plain English in docstrings, comments and messages: the worst habits do not come back."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.paths import ROOT

ROOMS = (
    "glide/checkpoints",
    "glide/data",
    "glide/diffusion",
    "glide/shapes",
    "glide/training",
    "glide/utils",
    "upsampler",
)
"""Folders whose code is held to these rules, with all that is below them."""
CLAUSE = re.compile(r"(What|Whether|How)\b")
WORDS = re.compile(r"\b(told|anew|lest|whose it is|shall)\b", re.IGNORECASE)


def files() -> list[Path]:
    found = [sorted((ROOT / room).rglob("*.py")) for room in ROOMS]
    assert all(found), "a room without a module"
    return [path for room in found for path in room]


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """All strings and comments of a module, each with its line."""
    source = path.read_text("utf-8")
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Strings that stand as statements: of modules, classes, functions, attributes and constants."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


@pytest.mark.slow
@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_plain_english(path: Path) -> None:
    wrong = [f"{line}: {text[:60]!r}" for line, text in docstrings(path) if CLAUSE.match(text.lstrip())]
    assert not wrong, "begin a docstring with a verb or a noun phrase, not What, Whether or How"
    wrong = [f"{line}: {found[0]!r}" for line, text in texts(path) for found in WORDS.finditer(text)]
    assert not wrong, "see docs/style.md for plainer words"
