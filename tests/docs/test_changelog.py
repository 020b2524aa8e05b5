"""CHANGELOG.md: what its table says to import now can be imported, and what it says of before cannot."""

import re

import pytest

from support.paths import ROOT

TABLE = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("### Old and new imports")[2]
ROWS = re.findall(r"^\| `(from [^`]+)` \| (`from .+`) \|$", TABLE, re.MULTILINE)


def test_the_table_is_read() -> None:
    assert len(ROWS) >= 35


@pytest.mark.parametrize(("before", "now"), ROWS, ids=[before for before, _ in ROWS])
def test_imports(before: str, now: str) -> None:
    for line in re.findall(r"`([^`]+)`", now):
        exec(line, {})
    with pytest.raises(ImportError):
        exec(before, {})
