"""docs/results.md: each figure has a command, a machine and a date, and no other page has figures of its own."""

import re
from pathlib import Path

import pytest

from support.paths import ROOT

PAGE = (ROOT / "docs/results.md").read_text("utf-8")
SECTIONS = re.split(r"^#{2,3} ", PAGE, flags=re.MULTILINE)[1:]
OTHERS = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "results.md"),
]
TOLD = {"docs/training.md"}  # experiments, each where its lesson is
COMMAND = re.compile(r"(?:python|pytest|bash) [\w./-]+|--\w")
DATED = re.compile(r"\b(?:[ABC]|any machine)\b[^|]*?2026-\d\d-\d\d")


@pytest.mark.parametrize("section", SECTIONS, ids=lambda text: text.partition("\n")[0])
def test_every_section_with_figures_has_command_machine_and_date(section: str) -> None:
    if re.search(r"^\| .*\d", section, re.MULTILINE):
        assert COMMAND.search(section)
        assert DATED.search(section)


def test_every_row_of_the_tables_with_commands_has_all() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| .*`(?:python|pytest) ", line)]
    assert len(rows) >= 20
    for row in rows:
        assert re.search(r"\| [ABC], 2026-\d\d-\d\d \|$", row), row


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: page.name)
def test_no_other_page_has_figures_of_its_own(page: Path) -> None:
    if str(page.relative_to(ROOT)) in TOLD:
        return
    text = page.read_text("utf-8")
    figures = re.findall(r"\b\d+\.\d+ ?%|\b\d+(?:\.\d+)? ?dB\b|\b\d+\.\d+ s\b|\b\d+ of \d{3,}\b", text)
    numbers = [re.split(r"[ %d]|s$", figure)[0] for figure in figures]
    assert [
        number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?![\d])", PAGE)
    ] == []
