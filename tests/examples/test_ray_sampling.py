"""examples/ray_sampling.py: its actors draw the parts of a list as sample.py does; flags that cannot be used."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "examples"))

import ray_sampling
from ray_sampling import PartDrawer

from glide.checkpoints.load import save_model
from glide.utils.cli import run
from support.conditions import conditioned_model
from support.models import CAPTIONS
from support.sample_script import Capture, call, refused

COUNT = 5


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """A model and a list of captions; flags of sample.py for a folder of results."""
    monkeypatch.chdir(tmp_path)
    save_model("model", conditioned_model((), null_condition=False))
    Path("list.txt").write_text("\n".join(CAPTIONS[i % 2] for i in range(COUNT)))
    base = "--model model --steps 2 --dtype float32 --prompts-file list.txt --out"
    return lambda out: [*base.split(), out]


def pixels(folder: str) -> list[bytes]:
    return [np.array(Image.open(path)).tobytes() for path in sorted(Path(folder).glob("*.png"))]


def test_an_actor_draws_parts_of_the_list(words: Callable[[str], list[str]]) -> None:
    assert call(*words("whole"), "--part", "1/1") == 0
    actor = PartDrawer(words("parts"), 2)
    assert actor({"id": np.array([1])}) == {"part": [1], "drawn": [3]}
    assert actor({"id": np.array([0, 1])}) == {"part": [0, 1], "drawn": [2, 0]}
    assert pixels("parts") == pixels("whole") and len(pixels("whole")) == COUNT


def test_flags_that_cannot_be_used(words: Callable[[str], list[str]], capsys: Capture) -> None:
    def started(*argv: str) -> int:
        with pytest.raises(SystemExit) as end:
            run(lambda: ray_sampling.main(argv))
        assert isinstance(end.value.code, int)
        return end.value.code

    refused(started("--parts", "0", "--", *words("out")), capsys, "--parts")
    refused(started("--parts", "2"), capsys, "give -- --prompts-file captions.txt")
    refused(started("--", *words("out"), "--part", "1/2"), capsys, "whose parts Ray draws")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        refused(started("--", *words("out")), capsys, "pip install 'glide-toolkit[ray]'")
