"""docs/own-pictures.md: its code runs, its commands are those of the plan, and its rules are those of the code."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.paths import ROOT
from toolkit.commands import train_auto_plan as plan
from toolkit.commands.train_auto_flags import TrainAuto
from toolkit.commands.train_auto_report import FIGURES as REPORT_FIGURES
from toolkit.commands.train_auto_report import PAGE, TEXT
from toolkit.commands.train_auto_stages import flags_of
from toolkit.commands.train_auto_state import NAME
from toolkit.commands.train_base_flags import parse
from toolkit.evaluation.own_pictures import GRID, SCALE

TEXT_OF_PAGE = (ROOT / "docs/own-pictures.md").read_text("utf-8")


def command(part: str) -> list[str]:
    """The flags of the one command that has this part."""
    parts = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT_OF_PAGE, re.MULTILINE | re.DOTALL)
    (line,) = [line for kind, block in parts if not kind for line in block.splitlines() if part in line]
    return shlex.split(line)[2:]


def test_white_things_are_seen_on_its_grey_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cutouts").mkdir()
    pixels = np.zeros((60, 80, 4), np.uint8)
    pixels[20:30, 10:60] = 255  # white, 50 wide and 10 high
    Image.fromarray(pixels).save("cutouts/white.png")
    (code,) = re.findall(r"^```python\n(.*?)^```$", TEXT_OF_PAGE, re.MULTILINE | re.DOTALL)
    exec(compile(code, "own-pictures.md", "exec"), {})
    with Image.open("photos/white.png") as picture:
        found = np.asarray(picture)
    assert found.shape == (53, 53, 3)
    assert (found == 255).all(-1).sum() == 500 and (found == 128).all(-1).sum() == 53 * 53 - 500


def test_the_command_by_hand_is_that_of_the_plan() -> None:
    (written,) = parse(command("--steps 3000"), None)
    stage = plan.Stage("base", 64, "emoji", None, 16, 3600.0, 3000, 64)
    changes = {"steps": 3000, "cooldown": 0.5, "evaluate_every": 500}
    made = flags_of(TrainAuto("photos/"), stage, Path("runs/photos"), 0.1, "captions", changes)
    assert (written.loss, written.practice) == (made.loss, made.practice)
    assert written.train.optim == made.train.optim
    for name in ("batch_size", "ema", "steps", "evaluate_every"):
        assert getattr(written.train, name) == getattr(made.train, name), name
    for name in ("data", "init", "held_out", "null_captions", "token_captions", "out"):
        assert getattr(written, name) == getattr(made, name), name


def test_it_says_what_the_code_does() -> None:
    for name in (PAGE, TEXT, REPORT_FIGURES, NAME):
        assert f"{name}`" in TEXT_OF_PAGE
    assert f"from {plan.HELD_OUT_FROM} pictures on" in TEXT_OF_PAGE
    assert f"a grid of {GRID} by {GRID} cells" in TEXT_OF_PAGE
    assert f"--scale {SCALE:g}" in TEXT_OF_PAGE
    hours = plan.UPSAMPLER_LEAST / plan.UPSAMPLER_SHARE / (1 - plan.REPORT_SHARE) / 3600
    assert 2.0 < hours < 2.5 and "more than two hours" in TEXT_OF_PAGE
    assert plan.ENOUGH_PASSES == 100 and "about a hundred times" in TEXT_OF_PAGE
