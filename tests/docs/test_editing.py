"""docs/editing.md does what it says: its code and its commands run."""

import re
import shlex
from pathlib import Path
from typing import Any

import inpaint
import interpolate
import pytest
import sample
from PIL import Image

from glide.networks.model import Model
from glide.utils.cli import run
from support.models import CAPTIONS
from support.sample_script import ROOT
from toolkit import Pipeline

PAGE = (ROOT / "docs/editing.md").read_text("utf-8")
SCRIPTS = {"inpaint.py": inpaint, "interpolate.py": interpolate, "sample.py": sample}


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("photo", "drawing", "a", "b"):
        Image.effect_noise((40, 40), 60).convert("RGB").save(f"{name}.png")
    mask = Image.new("L", (40, 40), 0)
    mask.paste(255, (5, 5, 20, 20))
    mask.save("mask.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.filterwarnings("default:the caption is longer")
def test_its_code_runs(pictures: Path, text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipeline(text_model, call_size=1)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: pipe)
    space: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "docs/editing.md", "exec"), space)
    assert Path("changed.png").exists() and Path("painted.png").exists()
    assert Path("thing.png").exists() and Path("background.png").exists()


@pytest.mark.slow
def test_its_commands_run(pictures: Path, text_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^python (.*)$", "\n".join(blocks("")), re.MULTILINE)
    commands = [shlex.split(line) for line in dict.fromkeys(lines)]
    ran = 0
    for path, *flags in commands:
        assert (ROOT / path).is_file(), path
        name = Path(path).name
        if name not in SCRIPTS or "--upsampler" in flags:
            continue  # those of training and measuring run in tests of their own
        short = [
            CAPTIONS[0] if last == "--prompt" else flag
            for last, flag in zip(["", *flags], flags, strict=False)
        ]
        steps = ["--steps", "2", "--model", str(text_folder)]
        with pytest.raises(SystemExit) as end:
            run(lambda: SCRIPTS[name].main([*short, *steps]))
        assert end.value.code == 0, capsys.readouterr().err
        ran += 1
    assert ran >= 7
