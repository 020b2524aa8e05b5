"""CONTRIBUTING.md: each idea of its index has a file of that name."""

import re
import unicodedata
from pathlib import Path

import pytest

from support.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
INDEX = re.findall(r"^\| (.+?) \| `(\S+)` \|$", PAGE.partition("## Index of ideas")[2], re.MULTILINE)


def plain(text: str) -> str:
    """The letters and digits alone, in lower case and without accents."""
    return re.sub(r"[^a-z0-9]", "", unicodedata.normalize("NFKD", text).lower())


def test_the_index_has_forty_eight_ideas_in_files_of_their_own() -> None:
    assert len(INDEX) == 48 == len({file for _, file in INDEX})


@pytest.mark.parametrize(("idea", "file"), INDEX)
def test_its_file_has_its_name(idea: str, file: str) -> None:
    (word,) = re.findall(r"\*\*(.+?)\*\*", idea)
    assert (ROOT / file).is_file(), file
    assert plain(word) in plain(Path(file).stem)


def test_the_import_rule_is_the_one_that_the_tests_hold() -> None:
    rule = "utils | diffusion, shapes | networks | checkpoints, data | training | guidance, upsampler"
    assert rule in PAGE
