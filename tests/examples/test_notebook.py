"""examples/glide.ipynb: small, without anything local, and each of its cells runs in a few steps."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from support.paths import ROOT

FILE = ROOT / "examples/glide.ipynb"
NOTEBOOK = json.loads(FILE.read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
WORDS = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "markdown"]


def run(source: str, namespace: dict[str, Any]) -> Any:
    """Run a cell; returns the value of its last line where that is an expression, which a notebook shows."""
    body = ast.parse(source).body
    last = body[-1]
    if isinstance(last, ast.Expr):
        body[-1] = ast.Assign([ast.Name("_shown", ast.Store())], last.value)
    namespace["_shown"] = None
    module = ast.fix_missing_locations(ast.Module(body, []))
    exec(compile(module, str(FILE), "exec"), namespace)
    return namespace["_shown"]


@pytest.mark.slow
def test_every_cell_runs(work_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLIDE_STEPS", "2")
    namespace: dict[str, Any] = {}
    shown = [run(source, namespace) for source in CODE]
    pictures = [one for one in shown if isinstance(one, Image.Image)]
    assert [picture.size[0] for picture in pictures] == [128, 544, 544, 256, 408, 680, 2 * 5 * 66 + 4]
    assert shown[-1]["model"] == "shapes" and shown[-1]["steps"] == 2
    assert namespace["STEPS"] == 2 and not list(work_folder.iterdir())
    for picture in pictures:
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 10


def test_it_is_small_and_holds_nothing_local() -> None:
    assert FILE.stat().st_size < 300_000
    assert not re.search(r"/home/|/root/|/work/|/tmp/|C:\\", FILE.read_text("utf-8"))
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)


def test_its_outputs_are_those_of_its_cells() -> None:
    """It was run from top to bottom, and each picture that a cell shows is in it."""
    cells = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = [kind for cell in cells for output in cell["outputs"] for kind in output.get("data", ())]
    assert kinds.count("image/png") == 7
    assert not [output for cell in cells for output in cell["outputs"] if output["output_type"] == "error"]


def test_its_links_lead_somewhere() -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", "\n".join(WORDS)):
        assert (FILE.parent / link).exists(), link


def test_its_first_cell_has_the_parameters() -> None:
    assert NOTEBOOK["cells"][1]["metadata"]["tags"] == ["parameters"]
    assert "GLIDE_STEPS" in CODE[0] and "GLIDE_MODEL" in CODE[0]
