"""Hostile inputs from small valid ones, and the judge of what is made of them.

A case is a function of its seed alone. What may come out: a result, or an InputError of one printable sentence.
"""

import json
import os
import random
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from glide.utils.errors import InputError

LONGEST = 500  # characters of a message
MEMORY = 4 * 2**30  # bytes that a case may take beyond what the process has
JOINERS = "\u200c\u200d"

TEXTS = [
    "",
    " ",
    "a red circle",
    "\x1b[31mred\x1b]0;title\x07",
    "line\nbreak\r\n",
    "\u202eevil\u2066",
    "\ud800 half",
    "\udcff",
    "\0",
    "naïve 🐶 コーギー",
    "a" * 3000,
    "word " * 400,
    "../../etc/passwd",
    "/dev/zero",
    "~",
    "-a red ring",
    "--out",
    "%s %d {0} {x}",
    "NaN",
    "1" * 5000,
    "é" * 300,
]
NUMBERS: list[Any] = [
    0,
    -1,
    1,
    2,
    0.5,
    -0.0,
    1e-300,
    1e300,
    10**30,
    10**400,
    -(10**400),
    2**31,
    2**63,
    2**64,
    float("nan"),
    float("inf"),
    float("-inf"),
    True,
]


def hostile(rng: random.Random) -> Any:
    """Any JSON value that is not expected."""
    return rng.choice(
        [
            rng.choice(NUMBERS),
            rng.choice(TEXTS),
            None,
            [],
            {},
            [rng.choice(NUMBERS)],
            {"a": rng.choice(TEXTS)},
            [[]] * 3,
            [rng.choice(TEXTS)] * 3,
        ]
    )


def mutate_json(rng: random.Random, value: Any) -> Any:
    """One place in it exchanged, taken out or added to."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        found = dict(value)
        way = rng.random()
        if way < 0.12:
            del found[key]
        elif way < 0.2:
            found[rng.choice(TEXTS)] = hostile(rng)
        else:
            found[key] = mutate_json(rng, value[key])
        return found
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], mutate_json(rng, value[at]), *value[at + 1 :]]
    return hostile(rng)


def json_bytes(rng: random.Random, value: Any) -> bytes:
    """A mutated value as a file, sometimes one that is no JSON."""
    way = rng.random()
    if way < 0.06:
        return b"[" * 100_000 + b"]" * 100_000
    if way < 0.1:
        return b'{"a":' * 50_000
    text = dumps(mutate_json(rng, value))
    if way < 0.2:
        return mutate_bytes(rng, text)
    return rng.choice([b"", b"\xef\xbb\xbf", b" "]) + text if way < 0.25 else text


def dumps(value: Any) -> bytes:
    """JSON, with whole numbers of any length."""
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)
    try:
        return json.dumps(value).encode()
    finally:
        sys.set_int_max_str_digits(limit)


def mutate_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bits turned, pieces cut, doubled or exchanged, the end cut off."""
    found = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 3, 20])):
        if not found:
            break
        at, length = rng.randrange(len(found)), rng.choice([1, 2, 4, 8, 64])
        way = rng.randrange(6)
        if way == 0:
            found[at] ^= 1 << rng.randrange(8)
        elif way == 1:
            found[at : at + length] = rng.choice([b"\xff", b"\0", b"\x7f"]) * length
        elif way == 2:
            del found[at : at + length]
        elif way == 3:
            found[at:at] = found[at : at + length]
        elif way == 4:
            found[at : at + length] = rng.randbytes(length)
        else:
            del found[at:]
    return bytes(found)


_seen: list[str] = []
_watching = False
FORBIDDEN = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "socket.getaddrinfo",
)


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching and event in FORBIDDEN:
        _seen.append(f"{event} {args!r}"[:200])


sys.addaudithook(_hook)  # for good: Python takes none away


@contextmanager
def _limited() -> Iterator[None]:
    """Less memory than would stop the machine: what wants more gets a MemoryError. On Linux alone, without a GPU."""
    if torch.cuda.is_available():  # whose driver asks for far more addresses than there is memory
        yield
        return
    try:
        import resource

        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (ImportError, OSError):
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def judge(act: Callable[[], object]) -> str | None:
    """What is wrong with what comes of it; None where nothing is."""
    global _watching
    said: list[str] = []
    wrong = None
    _seen.clear()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        _watching = True
        try:
            with _limited():
                act()
        except InputError as error:
            said.append(str(error))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-3:]
            where = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(last))
            wrong = f"{type(error).__name__} at {where}: {str(error)[:200]}"
        finally:
            _watching = False
    said += [str(one.message) for one in told if issubclass(one.category, UserWarning)]
    if _seen:
        return f"did {_seen[0]}"
    return wrong or next((fault for text in said if (fault := _fault(text))), None)


def _fault(text: str) -> str | None:
    if not text.strip():
        return "an empty sentence"
    if len(text) > LONGEST:
        return f"a sentence of {len(text)} characters: {text[:80]}"
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") and c not in JOINERS for c in text):
        return f"not printable: {text!r}"[:300]
    return None
