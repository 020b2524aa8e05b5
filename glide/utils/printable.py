"""Safe terminal output, without control characters: everything the toolkit prints goes through here."""

import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

LIMIT = 500  # characters of one message
CUT = " ... "
_quiet = False
JOINERS = "\u200c\u200d"  # format characters of Persian, Indic scripts and emoji


def printable(text: object, limit: int | None = LIMIT, stream: TextIO | None = None) -> str:
    r"""`text` on one line, without control sequences for a terminal.

    Control and format characters (bidirectional overrides among them), line breaks and lone surrogates become Python's
    escapes, such as `\x1b`; so do characters that `stream` cannot encode. limit: on the characters, None for no limit;
    a longer text keeps both ends, since a message ends with its advice. Applying it twice changes nothing more.
    """
    line = str(text)
    if limit is not None and len(line) > limit:  # before escaping, which can lengthen it tenfold
        line = _shortened(line, limit)
    line = "".join(_escaped(character) for character in line)
    encoding = getattr(stream, "encoding", None)
    if encoding:
        line = line.encode(encoding, "backslashreplace").decode(encoding)
    return line if limit is None or len(line) <= limit else _shortened(line, limit)


def be_quiet(quiet: bool) -> None:
    """Leave out progress bars and messages of `say` about the work from now on, or show them again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def say(text: object = "", stream: TextIO | None = None, *, result: bool = False) -> None:
    """Print `text`, of any number of lines, in printable form and without tearing a progress bar.

    stream: None is the current stdout. result: of a measurement, which is shown also in quiet mode, as is output to a
    given stream.
    """
    if _quiet and stream is None and not result:
        return
    stream = stream or sys.stdout
    lines = [printable(line, None, stream) for line in str(text).split("\n")]
    bars = sys.modules.get("tqdm")  # imported with the first bar; without one there is nothing to tear
    if bars is None:
        print("\n".join(lines), file=stream)
    else:
        bars.tqdm.write("\n".join(lines), file=stream)
    stream.flush()


def few(names: Sequence[str], limit: int = 8) -> str:
    """Names in one line; if there are more than `limit`, the first ones and the number of the others."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def beginning(text: str, limit: int) -> str:
    """The text, truncated with "..." to at most `limit` characters."""
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _shortened(line: str, limit: int) -> str:
    kept = limit - len(CUT)
    tail = kept // 3
    return f"{line[: kept - tail]}{CUT}{line[len(line) - tail :]}"


def _escaped(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character
