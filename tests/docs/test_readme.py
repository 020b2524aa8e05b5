"""README.md: short, its Python runs, its tree is there; docs/sampling.md's Python runs too."""

import re
from pathlib import Path
from typing import Any

import pytest

from glide.networks.model import Model
from support.paths import ROOT
from toolkit import Pipeline

README = (ROOT / "README.md").read_text("utf-8")


def test_it_is_short() -> None:
    assert len(README.split()) < 1200


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/sampling.md"])
@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_its_python_runs(
    page: str, text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (block,) = re.findall(
        r"^```python\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: Pipeline(text_model, call_size=1))
    space: dict[str, Any] = {}
    exec(compile(block, page, "exec"), space)
    assert (tmp_path / "ring.png").is_file() and len(space["result"].images) == 2


def test_its_tree_is_there() -> None:
    (tree,) = re.findall(r"^## Files\n+```\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    folders = [line.split()[0] for line in tree.splitlines()]
    assert all((ROOT / folder).is_dir() for folder in folders)
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in (ROOT / "glide").glob("*/__init__.py")}
    assert rooms <= set(folders) and {"guidance/", "upsampler/", "toolkit/", "tests/"} <= set(folders)


def test_every_page_can_be_found_from_it() -> None:
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)[)#]", README))
    assert linked == {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")}
