"""docs/guidance.md does what it says: its code runs, its commands run, its plug-in is as short as promised."""

import dataclasses
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from glide.checkpoints.load import save_model
from glide.diffusion.denoiser import Prediction
from glide.networks.model import Model
from glide.utils.entry_points import plug_ins
from glide.utils.images import load_image, read_recipe
from guidance import Guidance
from guidance.options import Options
from guidance.registry import built_in, known
from support.guides import guides as guides  # a fixture
from support.models import randomised
from support.predictions import X
from support.sample_script import QUICK, ROOT, call
from toolkit import Pipeline

PAGE = (ROOT / "docs/guidance.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def inner_model(text_model: Model) -> Model:
    """The text model with an inner head, so that it takes every guidance of the page."""
    unet = dataclasses.replace(text_model.config.unet, inner_head=2)
    config = dataclasses.replace(text_model.config, unet=unet)
    return randomised(Model(config, text_model.tokenizer), seed=1)


@pytest.fixture
def folders(guides: Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The networks where the page has them, the embedded ones being those too, which do not fit a tiny model."""
    assert guides.weak is not None
    shutil.copytree(guides.weak, tmp_path / "runs/early")
    for name, embedded, source in (
        ("classifier", "shapes-shape", guides.classifier),
        ("clip", "shapes-clip", guides.clip),
    ):
        shutil.copytree(source, tmp_path / "runs" / name)
        shutil.copytree(source, tmp_path / "models" / embedded)
    for module in ("classifier.load", "clip.load", "clip.pretrained"):
        monkeypatch.setattr(f"guidance.{module}.EMBEDDED", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plug_in() -> str:
    (block,) = [block for block in blocks("python") if "def build(" in block]
    return block


@pytest.mark.slow
def test_its_code_runs_from_top_to_bottom(
    folders: Path, inner_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipeline(inner_model, call_size=1)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: pipe)
    quick: Any = Pipeline.__call__
    monkeypatch.setattr(
        Pipeline, "__call__", lambda self, *args, **named: quick(self, *args, num_inference_steps=2, **named)
    )
    space: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/guidance.md", "exec"), space)


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the caption is longer")
def test_its_commands_run(folders: Path, inner_model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "inner", inner_model)
    commands = [line for block in blocks("") for line in block.splitlines() if "sample.py" in line]
    assert len(commands) >= len(built_in())
    for command in commands:
        if "--condition" in command:
            continue  # for another model: tests/docs/test_conditions.py
        if "--model adm-" in command:
            continue  # which is fetched: tests/toolkit/commands/test_cache.py
        _, script, *flags = shlex.split(command)
        assert script == "scripts/sample.py"
        assert call(*flags, "--model", tmp_path / "inner", *QUICK) == 0, command


@pytest.mark.parametrize("name", built_in())
def test_every_guidance_is_on_it(name: str) -> None:
    assert name == "none" or f"### {name}: " in PAGE


def test_the_plug_in_is_short_and_does_what_it_says() -> None:
    lines = [line for line in plug_in().splitlines() if line.strip()]
    assert len(lines) < 15
    space: dict[str, Any] = {}
    exec(plug_in(), space)
    bright: Guidance = space["build"](None, 0.25, (0, 500))
    main = Prediction(X)
    assert (bright.scale, bright.interval, bright.name) == (0.25, (0, 500), "Bright")
    assert ((X + bright.shift(main, [])) - (0.75 * X + 0.25)).abs().max() < 1e-6


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's plug-in as a package that pip installed."""
    (block,) = blocks("toml")
    group, name, where = re.findall(r'entry-points."(.+)"\]\n(\w+) = "(.+)"', block)[0]
    site = tmp_path / "site"
    info = site / "bright-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bright\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
    (site / f"{where.partition(':')[0]}.py").write_text(plug_in())
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    known.cache_clear()
    plug_ins.cache_clear()
    yield
    known.cache_clear()
    plug_ins.cache_clear()


def test_the_plug_in_by_its_name(installed: None, text_folder: Path, tmp_path: Path) -> None:
    flags = ["--model", text_folder, "--prompt", "a red circle", "--out", tmp_path / "o", *QUICK]
    (name,) = re.findall(r"`--guidance (bright:\S+)`", PAGE)
    assert call(*flags, "--guidance", "bright:0.5") == call(*flags, "--guidance", "none") == 0
    assert call(*flags, "--guidance", name) == 0
    bright, plain, _ = (load_image(tmp_path / f"o/0000{i}.png").float().mean() for i in range(3))
    assert bright > plain + 30 and read_recipe(tmp_path / "o/00000.png")["guidance"] == "bright"
