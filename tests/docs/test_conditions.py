"""docs/conditions.md and examples/conditions do what they say: their code and their commands run."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import make_pairs
import numpy as np
import pytest
import sample
import torch
import train_base
from PIL import Image

from glide.checkpoints.load import save_model
from glide.data.datasets import open_data
from glide.networks.picture_conditions import condition_named
from glide.utils.cli import run
from glide.utils.entry_points import plug_ins
from support.conditions import conditioned_model, label_map
from support.paths import ROOT
from support.sample_script import call
from toolkit import Pipeline
from toolkit.pipelines.conditions import read_conditions

PAGE = (ROOT / "docs/conditions.md").read_text("utf-8")
README = (ROOT / "examples/conditions/README.md").read_text("utf-8")


def blocks(page: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def own_kind() -> str:
    (block,) = [block for block in blocks(PAGE, "python") if "PictureCondition)" in block]
    return block


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pipe = Pipeline(conditioned_model(), call_size=1)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: pipe)
    quick: Any = Pipeline.__call__
    monkeypatch.setattr(
        Pipeline, "__call__", lambda self, *args, **named: quick(self, *args, num_inference_steps=2, **named)
    )
    (drawing,) = [block for block in blocks(PAGE, "python") if "condition=numbers" in block]
    with pytest.warns(UserWarning, match="is scaled to the model's 8x8"):
        exec(compile(drawing, "docs/conditions.md", "exec"), {})
    assert Path("square.png").exists()


def test_its_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save_model("runs/map", conditioned_model())
    save_model("runs/both", conditioned_model(("map:3", "image:1")))
    for name in ("map", "edges"):
        label_map().save(f"{name}.png")
    lines = re.findall(r"^python scripts/sample.py (.*)$", "\n".join(blocks(PAGE, "")), re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        words = re.sub(r'--prompt "[^"]*"', "", line)  # whose captions are longer than a small model reads
        assert call(*shlex.split(words), "--prompt", "a red circle", "--steps", "2") == 0


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's kind as a package that pip installed."""
    (block,) = blocks(PAGE, "toml")
    ((group, name, where),) = re.findall(r'entry-points\."(.+)"\]\n(\w+) = "(.+)"', block)
    (tmp_path / "my_package.py").write_text(own_kind())
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for cached in (plug_ins, condition_named):
        cached.cache_clear()
    yield
    sys.modules.pop("my_package", None)
    for cached in (plug_ins, condition_named):
        cached.cache_clear()


def test_a_kind_of_ones_own_is_one_file_of_under_40_lines(installed: None, tmp_path: Path) -> None:
    assert len(own_kind().splitlines()) < 40
    batch = open_data("shapes", 32, conditions=["edges"]).batch(0, 3)
    edges, image = batch["condition.edges"], batch["image"].int()
    assert edges.shape == (3, 1, 32, 32) and set(edges.unique().tolist()) == {0, 255}
    inner = image[..., 1:, 1:]
    steps = torch.maximum((inner - image[..., :-1, 1:]).abs(), (inner - image[..., 1:, :-1]).abs()).amax(1)
    assert torch.equal(edges[:, 0, 1:, 1:] == 255, steps > 24) and (steps > 24).any()
    planes = condition_named("edges").to_planes(edges)
    assert set(planes.unique().tolist()) == {-1.0, 1.0}
    model = conditioned_model(("edges",))
    save_model(tmp_path / "model", model)
    Image.effect_noise((8, 8), 60).save(tmp_path / "photo.png")
    (read,) = read_conditions(tmp_path / "photo.png", model)[0]
    assert read.stored.shape == (1, 8, 8)
    drawn = call(
        "--model", tmp_path / "model", "--condition", tmp_path / "photo.png", "--prompt", "a red circle",
        "--guidance", "picture:2", "--steps", "2", "--out", tmp_path / "out",
    )  # fmt: skip
    assert drawn == 0 and (tmp_path / "out/00000.png").exists()


SCRIPTS = {"train_base.py": train_base, "sample.py": sample, "make_pairs.py": make_pairs}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the caption is longer")
def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the four from its data to its pictures, with few steps of a small model."""
    monkeypatch.chdir(tmp_path)
    sections = re.split(r"^## ", README, flags=re.MULTILINE)
    assert len(sections) == 5 and all(len(section.splitlines()) <= 40 for section in sections)
    lines = re.findall(r"^python (.*)$", "\n".join(blocks(README, "")), re.MULTILINE)
    assert len(lines) == 9
    for line in lines:
        path, *flags = shlex.split(line)
        name = Path(path).name
        if name == "make_pairs.py":
            flags = [*flags, "--count", "12", "--image-size", "32"]
        elif name == "train_base.py":
            flags.remove("--init")
            flags.remove("shapes")
            flags += ["--preset", "tiny", "--steps", "2", "--batch-size", "4", "--sample-every", "2"]
        else:
            flags += ["--steps", "2"]
        with pytest.raises(SystemExit) as end:
            script = SCRIPTS[name]
            run(lambda: script.main(flags))
        assert end.value.code == 0, line
    made = [
        np.array(Image.open(f"data/shapes/{part}/000003.png"))
        for part in ("pictures", "maps", "edges", "damaged")
    ]
    assert [one.shape for one in made] == [(32, 32, 3), (32, 32), (32, 32), (32, 32, 3)]
    assert (made[0] != made[3]).mean() > 0.5 and len(list(Path("runs").glob("*/samples/0000002.png"))) == 4
    assert len(list(Path("outputs").glob("0*.png"))) == 7
