"""Text of strangers' files on a terminal: nothing that it obeys, nothing without end, nothing it cannot encode."""

import io
import re
import subprocess
import sys
import unicodedata

import pytest

from glide.utils.errors import InputError, one_line, warn
from glide.utils.installation import PACKAGES
from glide.utils.printable import LIMIT, printable, say
from support.paths import ROOT

HOSTILE = "a\x1b[2J\x07\x9b31m\r\x00\u202etxt.exe\u2066\u2028\ud800\udcff\ufeff\U000e0041b"


def obeyed(text: str) -> list[str]:
    """The characters of `text` that a terminal might obey or cannot be given, line breaks included."""
    return [
        c
        for c in text
        if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp", "Cf") and c not in "\u200c\u200d"
    ]


def test_control_format_and_lone_surrogate_characters_are_escaped():
    assert obeyed(printable(HOSTILE)) == []
    assert printable("\x1b[31m") == r"\x1b[31m"
    assert printable("a\nb\tc") == r"a\nb\tc"
    assert printable("\u202e\udcff") == r"\u202e\udcff"


@pytest.mark.slow
def test_every_character_of_unicode_can_be_printed():
    every = printable("".join(map(chr, range(sys.maxunicode + 1))), None)
    assert obeyed(every) == []
    every.encode("utf-8")


@pytest.mark.parametrize(
    "text", ["ein roter Ring", "赤い輪", "حلقة حمراء", "می‌خواهم", "👩‍🎨 draws", "a\\b", "C:\\new"]
)
def test_plain_text_of_any_language_stays_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize("text", [HOSTILE, HOSTILE * 100, "\x1b" * 499, "x" * 501, "x" * 10**6, ""])
def test_a_message_is_short_and_made_printable_once_and_for_all(text):
    said = printable(text)
    assert len(said) <= LIMIT
    assert printable(said) == said


def test_a_long_message_keeps_both_ends():
    said = printable("expected " + "x" * 10**6 + ": do that")
    assert said.startswith("expected xxx") and said.endswith("xxx: do that") and " ... " in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "shift_jis", "utf-8"])
def test_unencodable_characters_are_escaped(encoding):
    written = io.BytesIO()
    console = io.TextIOWrapper(written, encoding=encoding, newline="\n")
    say("grid: /home/é/赤い輪👍/\udcff.png\nnext", console)
    console.flush()
    said = written.getvalue().decode(encoding)
    assert said.count("\n") == 2 and said.startswith("grid: /home/") and r"\udcff" in said
    assert (r"\u8d64" in said) == (encoding in ("ascii", "cp1252"))


def test_errors_and_warnings_are_printable():
    assert obeyed(str(InputError(HOSTILE))) == [] == obeyed(one_line(HOSTILE))
    assert len(str(InputError("x" * 10**6))) <= LIMIT
    assert str(InputError("in\n two  lines")) == "in two lines"
    with pytest.warns(UserWarning) as warned:
        warn(HOSTILE, stacklevel=1)
    assert obeyed(str(warned[0].message)) == []
    assert warned[0].filename == __file__


def test_nothing_is_printed_past_say():
    past = re.compile(r"(?<![\w.])print\(|tqdm\.write\(|warnings\.warn\(|std(out|err)\.write\(")
    own = {"glide/utils/printable.py", "glide/utils/errors.py"}
    files = [p for d in (*PACKAGES, "scripts") for p in (ROOT / d).rglob("*.py")]
    assert len(files) > 100
    found = [str(p.relative_to(ROOT)) for p in files if past.search(p.read_text("utf-8"))]
    assert set(found) <= own, "use say() of glide/utils/printable.py or warn() of glide/utils/errors.py"


@pytest.mark.parametrize("command", ["raise InputError('赤 \\x1b[2J')", "say('赤 \\x1b[2J'); print('赤')"])
def test_a_script_on_a_console_of_another_encoding(command):
    code = (
        "from glide.utils import cli; from glide.utils.errors import InputError\n"
        f"from glide.utils.printable import say\ndef main():\n    {command}\ncli.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", code],
        env={"PYTHONIOENCODING": "cp1252", "PYTHONPATH": str(ROOT)},
        capture_output=True,
    )
    said = (done.stdout + done.stderr).decode("cp1252")
    assert r"\u8d64 \x1b[2J" in said and "Traceback" not in said
