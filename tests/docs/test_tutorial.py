"""docs/tutorial.md does what it says: its snippets run as written, in order, and make the pictures that it shows."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from support.paths import ROOT

PAGE = (ROOT / "docs/tutorial.md").read_text("utf-8")
STEPS = re.split(r"^## (?=\d )", PAGE, flags=re.MULTILINE)[1:]
MOST = 20  # lines of a snippet


def snippets(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def shown(text: str) -> list[str]:
    return re.findall(r"\]\((tutorial/\S+\.png)\)", text)


def test_eight_steps_each_with_one_short_snippet_an_equation_and_a_picture() -> None:
    assert [step[0] for step in STEPS] == [str(number) for number in range(1, 9)]
    for step in STEPS:
        (snippet,) = snippets(step)
        assert len([line for line in snippet.splitlines() if line]) <= MOST, step[:40]
        assert re.search(r"^    \S.*[=(]", step, re.MULTILINE), f"no equation: {step[:40]}"
        assert shown(step), f"no picture: {step[:40]}"


@pytest.mark.slow
def test_its_snippets_run_in_order_and_make_its_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: None
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)  # its tensors are small: several threads would mostly wait for each other
    space: dict[str, Any] = {}
    with torch.random.fork_rng():
        for step in STEPS:
            for snippet in snippets(step):
                exec(compile(snippet, f"docs/tutorial.md, step {step[0]}", "exec"), space)
            for name in shown(step):
                with Image.open(tmp_path / name) as made, Image.open(ROOT / "docs" / name) as kept:
                    assert made.size == kept.size
    made_names = {f"tutorial/{path.name}" for path in (tmp_path / "tutorial").iterdir()}
    assert made_names == set(shown(PAGE))
