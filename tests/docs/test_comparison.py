"""docs/comparison.md does what it says: its commands run, with folders of drawn scenes, and answers of the oracle."""

import json
import re
import shlex
from pathlib import Path

import compare
import oracle_rater
import pytest
from PIL import Image

from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from glide.utils.images import save_png
from support.paths import ROOT
from support.scripts import call

PAGE = (ROOT / "docs/comparison.md").read_text("utf-8")
SCRIPTS = {"scripts/compare.py": compare, "examples/comparison/oracle_rater.py": oracle_rater}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenes as they are, in some folders, and turned upside down, in others, in place of those that models draw."""
    monkeypatch.chdir(tmp_path)
    for i, scene in enumerate(held_out_scenes(20)):
        picture = Image.fromarray(render([scene], 64)[0])
        for name in ("shapes", "a"):
            save_png(f"outputs/{name}/{i:05d}.png", picture, {"prompt": scene.caption})
        for name in ("shapes-latent", "b", "c"):
            turned = picture.transpose(Image.Transpose.ROTATE_180)
            save_png(f"outputs/{name}/{i:05d}.png", turned, {"prompt": scene.caption})
    Path("captions.txt").write_text("".join(f"{scene.caption}\n" for scene in held_out_scenes(20)), "utf-8")
    return tmp_path


@pytest.mark.slow
def test_its_commands_run(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = re.findall(r"^python (\S+\.py) (.*)$", PAGE, re.MULTILINE)
    ours = [(path, shlex.split(words)) for path, words in lines if path in SCRIPTS]
    assert len(ours) == 6
    order = sorted(
        ours, key=lambda one: "anna.json" in one[1]
    )  # whose answers the example's raters stand in for
    for path, words in order:
        if "anna.json" in words and not Path("anna.json").exists():
            Path("anna.json").write_bytes(Path("outputs/answers/oracle.json").read_bytes())
            text = Path("outputs/answers/distracted.json").read_text("utf-8")
            Path("ben.json").write_text(text.replace("distracted", "ben"), "utf-8")
        if "outputs/compare.html" in words:
            words = [
                *words,
                "--seed",
                "25",
            ]  # one by which the careless rater does not pass, as one in nine does
        assert call(SCRIPTS[path], *words) == 0, words
    out = capsys.readouterr().out
    assert "2 of 3 raters counted" in out and re.search(r"careless .*failed, left out", out)
    report = json.loads(Path("report.json").read_text("utf-8"))
    assert [one["passed"] for one in report["raters"]] == [True, True]
    best = report["questions"]["fits"]["elo"][0]
    assert (
        best["model"] == "shapes" and best["interval"][0] > 0
    )  # upside down, relations and places are wrong


def test_a_rater_who_presses_at_random_passes_as_often_as_it_says() -> None:
    passing = sum(bin(answers).count("1") >= 0.8 * 6 for answers in range(64))
    assert f"{passing} in 64" in PAGE
