"""Text that a terminal shows and never obeys: everything the toolkit prints goes through here."""

import sys
import unicodedata
from collections.abc import Sequence
from typing import TextIO

LIMIT = 500  # characters of one message
CUT = " ... "
_quiet = False
JOINERS = "\u200c\u200d"  # format characters that Persian, Indic scripts and emoji are written with


def printable(text: object, limit: int | None = LIMIT, stream: TextIO | None = None) -> str:
    r"""`text` on one line, without anything that a terminal would obey.

    Control and format characters (bidirectional overrides among them), line breaks and lone surrogates become escapes
    as Python writes them, such as `\x1b`; so does whatever `stream` cannot encode. limit: the most characters, None
    for any number; of a longer text both ends are kept, since a message ends with what to do. Applied twice, it
    changes nothing more.
    """
    said = str(text)
    if limit is not None and len(said) > limit:  # before the escapes, which may take ten times as long
        said = _shortened(said, limit)
    said = "".join(_escaped(character) for character in said)
    encoding = getattr(stream, "encoding", None)
    if encoding:
        said = said.encode(encoding, "backslashreplace").decode(encoding)
    return said if limit is None or len(said) <= limit else _shortened(said, limit)


def be_quiet(quiet: bool) -> None:
    """Leave out progress bars and what `say` prints of the work from now on, or show it again."""
    global _quiet
    _quiet = quiet


def is_quiet() -> bool:
    return _quiet


def say(text: object = "", stream: TextIO | None = None, *, result: bool = False) -> None:
    """Print `text`, of any number of lines, in printable form and without tearing a progress bar.

    stream: None is stdout as it is now. result: of a measurement, which is shown also where all else is quiet, as is
    what goes to a stream.
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


def few(names: Sequence[str], most: int = 8) -> str:
    """Names in one line; of more than `most` the first ones, and how many others there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def beginning(text: str, most: int) -> str:
    """The text, or of one with more than `most` characters the first ones and "..."."""
    return text if len(text) <= most else text[: most - 3] + "..."


def _shortened(said: str, limit: int) -> str:
    kept = limit - len(CUT)
    tail = kept // 3
    return f"{said[: kept - tail]}{CUT}{said[len(said) - tail :]}"


def _escaped(character: str) -> str:
    if character.isprintable() or character in JOINERS:
        return character
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character
