"""Plain English in docstrings, comments and messages: the worst habits do not come back."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

PACKAGES = ("glide", "guidance", "upsampler", "toolkit", "scripts", "benchmarks", "examples")
CLAUSE = re.compile(r"(What|Whether|How)\b")
WORDS = re.compile(r"\b(told|anew|lest|whose it is|shall)\b", re.IGNORECASE)


def files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


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


def where(path: Path, line: int, text: str) -> str:
    return f"{path.relative_to(ROOT)}:{line}: {text[:60]!r}"


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    """Not with What, Whether or How."""
    wrong = [
        where(path, line, text)
        for path in files()
        for line, text in docstrings(path)
        if CLAUSE.match(text.lstrip())
    ]
    assert not wrong


def test_words_are_plain() -> None:
    """docs/style.md has others."""
    wrong = [
        where(path, line, found[0])
        for path in files()
        for line, text in texts(path)
        for found in WORDS.finditer(text)
    ]
    assert not wrong
