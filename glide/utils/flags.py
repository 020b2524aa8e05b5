"""Check the flags of a command line before tyro parses them, with one sentence, and the right flag, for each mistake.

The flags are the fields of a script's dataclass. Their values - one, several, none; numbers in a range, one of several
words, a path - follow from its type hints.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import tyro
from tyro.conf import UseAppendAction

from glide.utils.errors import InputError
from glide.utils.flag_aliases import ALIASES, SENTENCES, STANDS_FOR, VALUES
from glide.utils.numbers import Range, shown_number
from glide.utils.program import program
from glide.utils.ranges import range_of

TEXTS = frozenset({"prompt", "negative", "label"})
"""Fields of free text: any encodable text, also an empty one. Other texts are names and paths."""
FINAL = {"--help": "--help", "-h": "--help", "--version": "--version"}
"""Flags of every script that end the parsing."""
COMMON = (*FINAL, "--quiet", "-q")
"""Flags of every script."""

_ARG = type(tyro.conf.arg())
_POSITIONAL = get_args(tyro.conf.Positional[int])[1]
_SUPPRESSED = get_args(tyro.conf.Suppress[int])[1]


@dataclass(frozen=True)
class Flag:
    """A flag of a script."""

    name: str
    """As it is written: --num-samples; the name of its value if it is positional."""
    field: str
    kind: type
    """bool, int, float, Path or str."""
    values: int | None
    """The number of its values; None: any number."""
    choices: tuple[str, ...] = ()
    allowed: Range | None = None
    optional: bool = False
    required: bool = False
    positional: bool = False
    hint: str = "VALUE"
    """The word for its value in --help."""


def prepare(args: type, argv: Sequence[str], default: object = None) -> list[str]:
    """The command line for tyro: every flag as `--name=value`, aliases and `~` replaced, values checked.

    default: an instance with the values of flags that are not given. InputError, in one sentence, for an unknown flag
    (with the nearest one), a missing value, a number out of range, a word that is not among the choices.
    """
    known = flags_of(args)
    found: list[str] = []
    given: set[str] = set()
    positional = [flag for flag in known.values() if flag.positional]
    rest, places = list(argv), 0
    while rest:
        token = rest.pop(0)
        if not token.startswith("-") or token == "-":
            if not positional:
                raise InputError(f"got {token!r}, expected a flag before it: see --help")
            first = positional[0] if positional[0].values is None else positional.pop(0)
            given.add(first.name)
            found.insert(places, _read(first, token))  # before all flags, where a list of them stays together
            places += 1
            continue
        if token in FINAL:
            return [FINAL[token]]
        if token in ("--quiet", "-q"):
            found.append("--quiet")
            continue
        name, equals, value = token.partition("=")
        flag, switched = _find(name, known)
        if flag is None:
            continue  # a switch without effect here
        given.add(flag.name)
        if switched:
            found.append(switched)
        elif flag.values == 0:
            if equals:
                raise InputError(f"got {token!r}, expected {name} alone: it takes no value")
            found.append(flag.name)
        elif equals:
            found += _joined(flag, [value])
        else:
            count = len(rest) if flag.values is None else flag.values
            values: list[str] = []
            while rest and len(values) < count and not _is_flag(rest[0], known):
                values.append(rest.pop(0))
            if len(values) < count and flag.values is not None:
                raise InputError(_missing(flag, rest))
            found += _joined(flag, values)
    for flag in known.values():
        if flag.required and flag.name not in given and _lacks(default, flag):
            raise InputError(f"expected {_written(flag)}, got none: add it, or see --help")
    return found


@cache
def flags_of(args: type) -> dict[str, Flag]:
    """The flags of a script's dataclass by name, including those of nested dataclasses."""
    return {flag.name: flag for flag in _flags(args)}


def _flags(args: type) -> Iterator[Flag]:
    hints = get_type_hints(args, include_extras=True)
    for field in dataclasses.fields(args):
        hint, marks = _unwrapped(hints[field.name])
        if _SUPPRESSED in marks:
            continue
        if dataclasses.is_dataclass(hint):
            yield from _flags(hint)  # type: ignore[arg-type]
            continue
        about = next((mark for mark in marks if isinstance(mark, _ARG)), None)
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        yield _flag(args, field, hint, marks, about, required)


def _flag(
    owner: type, field: dataclasses.Field[Any], hint: Any, marks: Sequence[Any], about: Any, required: bool
) -> Flag:
    optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    if optional:
        hint = next(one for one in get_args(hint) if one is not NoneType)
    values: int | None = 1
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        values = None if Ellipsis in inner else len(inner)
        values = 1 if UseAppendAction in marks else values
        hint = inner[0]
    choices = tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else ()
    kind = str if choices else hint
    name = (about.name if about is not None and about.name else field.name).replace("_", "-")
    positional = _POSITIONAL in marks
    if kind is bool:
        name = f"no-{name}" if field.default is True else name
        values = 0
    shown = about.metavar if about is not None and about.metavar else _shown(kind, choices)
    return Flag(
        name=shown if positional else f"--{name}",
        field=field.name,
        kind=kind,
        values=values,
        choices=choices,
        allowed=range_of(owner, field.name) if kind in (int, float) else None,
        optional=optional,
        required=required,
        positional=positional,
        hint=shown,
    )


def _shown(kind: type, choices: Sequence[str]) -> str:
    if choices:
        return "{" + ",".join(choices) + "}"
    return {int: "INT", float: "NUMBER", Path: "PATH", str: "TEXT"}.get(kind, "VALUE")


def _unwrapped(hint: Any) -> tuple[Any, tuple[Any, ...]]:
    if get_origin(hint) is Annotated:
        inner, *marks = get_args(hint)
        return inner, tuple(marks)
    return hint, ()


def _find(name: str, known: dict[str, Flag]) -> tuple[Flag | None, str]:
    """The flag of a word and, if the word implies a value, the flag with that value.

    InputError for an unknown word, with advice or the nearest flag.
    """
    word = _plain(name)
    if word in known:
        return known[word], ""
    if (alias := ALIASES.get(word, "")) in known:
        return known[alias], ""
    if word in STANDS_FOR:
        instead = STANDS_FOR[word]
        if not instead:
            return None, ""
        if (flag := instead.partition("=")[0]) in known:
            return known[flag], instead
    where = program()
    sentence = SENTENCES.get(word) or SENTENCES.get(ALIASES.get(word, ""))
    if sentence is not None and _applies_to(sentence, known):
        raise InputError(f"got {name}, which {where} does not have: {sentence}")
    names = {flag: flag for flag in (*known, *COMMON)}
    names |= {alias: flag for alias, flag in ALIASES.items() if flag in known and len(alias) > 2}
    near = difflib.get_close_matches(word, names, 1, 0.6)
    expected = f"expected {names[near[0]]}" if near else "expected another flag"
    raise InputError(f"got {name}, which {where} does not have, {expected}: see --help")


def _applies_to(sentence: str, known: dict[str, Flag]) -> bool:
    """True if this script has all flags that a sentence names."""
    words = [word.strip(",:.") for word in sentence.split()]
    return all(word in known for word in words if word.startswith("--"))


def _plain(name: str) -> str:
    return name.replace("_", "-") if name.startswith("--") else name


def _is_flag(token: str, known: dict[str, Flag]) -> bool:
    """True for a word that is the next flag, and not a value, such as -1 or "-a red ring"."""
    name = _plain(token.partition("=")[0])
    if name in known or name in ALIASES or name in STANDS_FOR or name in SENTENCES or name in COMMON:
        return True
    return token.startswith("--") and not any(letter.isspace() for letter in token)


def _missing(flag: Flag, rest: Sequence[str]) -> str:
    """The sentence for a flag with too few values."""
    expected = flag.hint if flag.values == 1 else f"{flag.values} values"
    way = f"write {flag.name}=... for a value that begins with --" if rest and flag.kind is str else "give it"
    return f"got {flag.name} without its value, expected {expected} after it: {way}"


def _written(flag: Flag) -> str:
    return flag.name if flag.positional else f"{flag.name} {flag.hint}"


def _lacks(default: object, flag: Flag) -> bool:
    value = getattr(default, flag.field, tyro.MISSING)
    return value is tyro.MISSING or value is tyro.MISSING_NONPROP


def _joined(flag: Flag, values: Sequence[str]) -> list[str]:
    """A flag and its values for tyro."""
    read = [_read(flag, value) for value in values]
    return [f"{flag.name}={read[0]}"] if flag.values == 1 else [flag.name, *read]


def _read(flag: Flag, text: str) -> str:
    """The text of a value for tyro. InputError for an invalid value."""
    if flag.optional and text == "None":
        return text
    if flag.allowed is not None:
        read = flag.allowed.read_whole if flag.kind is int else flag.allowed.read_real
        return repr(read(text, flag.name))
    text = VALUES.get(flag.name, {}).get(text.lower(), text)
    if flag.choices and text not in flag.choices:
        raise InputError(
            f"got {flag.name} {shown_number(text)}, expected {' or '.join(flag.choices)}: choose one of these"
        )
    if "\0" in text:
        raise InputError(f"got {flag.name} with a NUL character, expected text without: leave it out")
    if flag.field in TEXTS:
        check_text(text, flag.name)
        return text
    if not text.strip():
        raise InputError(f"got {flag.name} {text!r}, expected {flag.hint}: give it, or leave the flag out")
    return "::".join(_expand_home(part, flag) for part in text.split("::"))


def check_text(text: str, name: str) -> None:
    """InputError for text that cannot be encoded: bytes that are not UTF-8, which Python keeps as lone surrogates."""
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise InputError(f"got {name} {shown_number(text)}, expected text in UTF-8: write it again")


def _expand_home(path: str, flag: Flag) -> str:
    """Expand `~` in a path, which a shell does not do after `=` and in quotes."""
    if not path.startswith("~"):
        return path
    try:
        full = os.path.expanduser(path)
    except ValueError:  # a name with a lone surrogate
        full = path
    if full.startswith("~"):
        raise InputError(f"got {flag.name} {path!r}, expected a path: {path.split('/')[0]} is no user here")
    return full
