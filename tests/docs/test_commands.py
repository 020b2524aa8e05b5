"""Every command on every page parses, of the scripts and of `glide`; the files of all others are there."""

import re
import shlex
import tomllib
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

from glide.networks.presets import PRESETS
from glide.utils.cli import parse
from glide.utils.errors import InputError
from glide.utils.program import words_of
from support.paths import ROOT
from toolkit.commands.main import BY_WORDS, Command
from upsampler.presets import UPSAMPLERS

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "examples").glob("*/*.md"),
        *(ROOT / "glide").rglob("*.md"),
    ]
)
LINE = re.compile(
    r"^ *((?:python|glide|torchrun|accelerate|pytest|bash) [^`\n]+?)(?: {2,}#.*)?$", re.MULTILINE
)
INLINE = re.compile(r"`((?:python (?:scripts|benchmarks|examples)/|glide |pytest )[^`]*)`")


def commands(page: Path) -> list[list[str]]:
    """The words of each command of a page; what is cut short by "..." is left out."""
    text = page.read_text("utf-8")
    parts = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    blocks = "\n".join(block for kind, block in parts if not kind)
    found = [*LINE.findall(blocks), *(one.replace("\n", " ") for one in INLINE.findall(text))]
    return [shlex.split(one, comments=True) for one in found if "..." not in one and "COMMAND" not in one]


def read_flags(command: Command, words: list[str]) -> None:
    """Raises what the command itself would say of these words; nothing is drawn, trained or written."""
    module, _, name = command.flags.partition(":")
    flags = getattr(import_module(module), name)
    if isinstance(flags, type):
        parse(flags, None, words)
    else:
        flags(words, None)


def check(words: list[str]) -> None:
    if words[0] == "glide":
        known = next((n for n in (2, 1) if " ".join(words[1 : n + 1]) in BY_WORDS), None)
        assert known or words[1].startswith("--"), f"glide has no {words[1:3]}"
        if known:
            read_flags(BY_WORDS[" ".join(words[1 : known + 1])], words[known + 1 :])
        return
    path = next((word for word in words if re.match(r"(scripts|benchmarks|examples|tests)/", word)), None)
    if path is None:
        return  # of pip, venv and the like
    assert (ROOT / path).exists(), path
    if path.startswith("scripts/") and "--like" not in words:  # which reads its file at once
        flags = words[words.index(path) + 1 :]
        read_flags(BY_WORDS[words_of(Path(path).stem)], flags)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        try:
            check(words)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{page.relative_to(ROOT)}: {shlex.join(words)}") from error


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_preset_that_is_named_is_there(page: Path) -> None:
    named = {preset for words in commands(page) for flag, preset in pairwise(words) if flag == "--preset"}
    assert named <= {*PRESETS, *UPSAMPLERS, "glide"}  # the last one is a CLIP's


def test_readme_and_results_have_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 5
    assert len(commands(ROOT / "docs/results.md")) >= 20
    assert "python scripts/sample.py --guidance cfg --scale 3" in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    "words", ["glide paint", "python scripts/sample.py --colour", "python scripts/smaple.py"]
)
def test_a_wrong_command_does_not(words: str) -> None:
    with pytest.raises((AssertionError, InputError)):
        check(shlex.split(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_code_can_be_read(page: Path) -> None:
    parts = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert {kind for kind, _ in parts} <= {"", "python", "toml", "text"}
    for kind, block in parts:
        if kind == "python":
            compile(block, str(page), "exec")
        elif kind == "toml":
            tomllib.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_rows_of_a_table_have_as_many_cells(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for table in re.findall(r"(?:^\|.*\|$\n?)+", text, re.MULTILINE):
        rows = [re.sub(r"`[^`]*`", "", row).count("|") for row in table.splitlines()]
        assert len(set(rows)) == 1, table.splitlines()[0]
