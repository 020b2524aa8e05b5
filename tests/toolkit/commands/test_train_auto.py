"""`train auto`: it goes on where it was interrupted, leaves a model and a report, refuses what cannot be trained."""

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sample as sample_script  # scripts/sample.py
import torch
import train_auto as script  # scripts/train_auto.py
from PIL import Image
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, save_model
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.training.step import Stepper
from glide.utils.errors import InputError
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.load import save_classifier
from guidance.classifier.network import NoisyClassifier
from support.models import tiny_unet
from support.sample_script import Capture
from support.scripts import call
from toolkit.commands import train_auto as command
from toolkit.commands import train_auto_plan as planning
from toolkit.commands import train_auto_stages as stages
from toolkit.commands.train_auto_flags import TrainAuto
from toolkit.commands.train_auto_plan import Stage
from toolkit.evaluation import training_evaluation

WORDS = ("ball", "box", "leaf", "star", "ring", "cup")
STEPS = 6


def write_pictures(folder: Path, count: int = 12, classes: bool = False) -> Path:
    """Pictures of one colour each, captioned, or in class folders."""
    for i in range(count):
        name = folder / (f"class {i % 3}/{i}.png" if classes else f"{i}.png")
        name.parent.mkdir(parents=True, exist_ok=True)
        colour = np.random.default_rng(i).integers(0, 256, 3, np.uint8)
        Image.fromarray(np.full((40, 40, 3), colour)).save(name)
        if not classes:
            name.with_suffix(".txt").write_text(f"a {WORDS[i % 6]} number {i}.\n")
    return folder


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The folders of a tiny model to begin with, and of a classifier that judges."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    preset = PRESETS["tiny"]
    assert preset.text is not None
    tokenizer = Tokenizer.train([f"a {word} number {i}." for word in WORDS for i in range(9)], 300, 24)
    save_model(
        folder / "model",
        Model(replace(preset, text=replace(preset.text, vocab=tokenizer.n_vocab)), tokenizer),
    )
    save_classifier(folder / "judge", NoisyClassifier(ClassifierConfig(tiny_unet(3), 5)))
    return folder / "model", folder / "judge"


@pytest.fixture(autouse=True)
def six_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps a stage, whatever this machine does in the time, and pictures of two steps."""
    monkeypatch.setattr(training_evaluation, "DEFAULT_STEPS", 2)
    monkeypatch.setattr(stages, "CURVE_POINTS", 3)
    monkeypatch.setattr(stages, "sample_grid", lambda *args: None)
    monkeypatch.setattr(stages, "steps_for", lambda seconds, done, each: max(done + 1, STEPS))
    monkeypatch.setattr(command, "measured_speed", lambda *args: 50.0)


def flags(tiny: tuple[Path, Path], data: Path, out: Path) -> list[str]:
    model, judge = map(str, tiny)
    asked = ["--init", model, "--judge", f"classifier:{judge}", "--size", "32", "--hours", "0.01"]
    return [str(data), *asked, "--dtype", "float32", "--device", "cpu", "--out", str(out)]


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model/model.safetensors")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_model(
    tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    data = write_pictures(tmp_path / "photos")
    assert call(script, *flags(tiny, data, tmp_path / "whole")) == 0
    said = capsys.readouterr().out
    assert "as asked for" in said and "Nothing is held out: of 12 pictures each is needed" in said
    step, seen = Stepper.step, []

    def stopped(self: Any, number: int, *args: Any, **more: Any) -> Any:
        seen.append(number)
        if number == 3 and seen.count(3) == 1:  # the next step is finished, and is not the last
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, number, *args, **more)

    monkeypatch.setattr(Stepper, "step", stopped)
    cut = flags(tiny, data, tmp_path / "cut")
    assert call(script, *cut) == 128 + signal.SIGTERM
    assert not (tmp_path / "cut/model").exists()
    state = json.loads((tmp_path / "cut/auto.json").read_text())
    assert [one["steps"] for one in state["rounds"]["base"]] == [1, 3, 6]
    assert [one["seconds_per_step"] is None for one in state["rounds"]["base"]] == [False, False, True]
    assert call(script, *cut) == 0
    assert seen == list(range(STEPS))  # no step is trained twice
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "cut")
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
    # finished: nothing is trained again, also where the last step was done and the state not yet written
    state = json.loads((tmp_path / "cut/auto.json").read_text())
    state["rounds"]["base"][-1]["seconds_per_step"], state["done"] = None, False
    (tmp_path / "cut/auto.json").write_text(json.dumps(state))
    shutil.rmtree(tmp_path / "cut/model")
    assert call(script, *cut) == 0 and len(seen) == STEPS
    assert all(torch.equal(one[name], value) for name, value in weights(tmp_path / "cut").items())


@pytest.mark.slow
def test_it_leaves_a_model_and_a_report(
    tiny: tuple[Path, Path], tmp_path: Path, work_folder: Path, capsys: Capture
) -> None:
    data, out = write_pictures(tmp_path / "photos"), tmp_path / "run"
    (data / "broken.png").write_bytes(b"no picture")
    (data / "broken.txt").write_text("a broken one")
    assert call(script, *flags(tiny, data, out)) == 2  # 1 of 13 is more than 5%
    assert "1 are broken (broken.png" in capsys.readouterr().err
    (data / "broken.png").unlink()
    assert call(script, *flags(tiny, data, out)) == 0
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    figures = json.loads((out / "report.json").read_text())
    assert figures["drawn"] == 8 and figures["step"] == STEPS
    share = figures["figures"]["captions_right"]["value"]
    assert f"Drawn recognisably: {share:.0%}" in text and "Learned by heart:" in text and "Going on" in text
    assert page.count("<img") >= 3 * 8 and "<script" not in page
    model = load_model(out / "model")
    assert model.config.picture_size == 32 and model.config.process.shift == 2.0
    drawn = ("--model", out / "model", "--prompt", "a ball number 0.", "--steps", "2", "--device", "cpu")
    assert call(sample_script, *drawn, "--out", tmp_path / "drawn") == 0


@pytest.mark.slow
def test_classes_and_pictures_alone(tiny: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    data = write_pictures(tmp_path / "classes", classes=True)
    assert call(script, *flags(tiny, data, tmp_path / "a")) == 0
    assert load_model(tmp_path / "a/model").config.class_names == ("class 0", "class 1", "class 2")
    assert "8 classes of training pictures" in (tmp_path / "a/report.md").read_text()
    for text in write_pictures(tmp_path / "alone").glob("*.txt"):
        text.unlink()
    assert call(script, *flags(tiny, tmp_path / "alone", tmp_path / "b")) == 0
    config = load_model(tmp_path / "b/model").config
    assert config.text is None and config.num_classes == 0
    assert "Drawn recognisably" not in (tmp_path / "b/report.md").read_text()


@pytest.mark.slow
def test_an_upsampler_stands_beside_its_base(
    tiny: tuple[Path, Path],
    upsampler_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
) -> None:
    monkeypatch.setattr(planning, "UPSAMPLER_INIT", str(upsampler_folder))
    data, out = write_pictures(tmp_path / "photos"), tmp_path / "run"
    for path in data.glob("*.txt"):
        path.write_text(path.stem)  # the upsampler takes few tokens
    assert call(script, *flags(tiny, data, out), "--upsampler", "yes") == 0
    assert load_model(out / "model/upsampler").config.low_res
    assert "--size 128" in (out / "report.md").read_text()
    drawn = (
        "--model",
        out / "model",
        "--prompt",
        "7",
        "--steps",
        "2",
        "--size",
        "128",
        "--device",
        "cpu",
    )
    assert call(sample_script, *drawn, "--upsample-steps", "2", "--out", tmp_path / "drawn") == 0
    with Image.open(tmp_path / "drawn/00000.png") as drawn_picture:
        assert drawn_picture.size == (128, 128)


def test_a_plan_alone_writes_nothing(tiny: tuple[Path, Path], tmp_path: Path, capsys: Capture) -> None:
    data = write_pictures(tmp_path / "photos")
    assert call(script, *flags(tiny, data, tmp_path / "run"), "--plan-only") == 0
    said = capsys.readouterr().out
    assert "The plan:" in said and "steps at the 50.0 pictures a second" in said
    assert not (tmp_path / "run").exists()


def test_what_has_changed_is_refused(
    tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    data, out = write_pictures(tmp_path / "photos"), tmp_path / "run"
    for name in ("run_stage", "_finish"):  # what has been trained does not matter
        monkeypatch.setattr(command, name, lambda *args: None)
    args = flags(tiny, data, out)
    assert call(script, *args) == 0
    capsys.readouterr()
    for more, said in (
        (("--hours", "0.5"), "got --hours 0.5 for"),
        (("--seed", "1"), "which was planned with 0, expected the same"),
        (("--flip",), "got --flip True for"),
    ):
        assert call(script, *args, *more) == 2
        assert said in capsys.readouterr().err
    write_pictures(data, 13)
    assert call(script, *args) == 2
    assert "13, before 12" in capsys.readouterr().err
    (out / "auto.json").write_text('{"version": 1}')
    assert call(script, *args) == 2
    assert "is no plan of this version" in capsys.readouterr().err
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    assert call(script, *flags(tiny, data, other)) == 2
    assert "holds something else, expected a new folder" in capsys.readouterr().err
    assert [path.name for path in other.iterdir()] == ["notes.txt"]


def test_the_speed_of_this_machine_is_measured(tiny: tuple[Path, Path], tmp_path: Path) -> None:
    data, (model, judge) = write_pictures(tmp_path / "photos"), tiny
    args = TrainAuto(str(data), out=tmp_path / "run", judge=f"classifier:{judge}", device="cpu")
    base = Stage("base", 32, str(model), None, 4, 0.0, 1, 1)
    assert 0.1 < stages.measured_speed(args, base, 0.0, "captions") < 1e6
    with pytest.raises(InputError, match="nothing-there"):
        stages.measured_speed(args, replace(base, init="nothing-there"), 0.0, "captions")
    assert not (tmp_path / "run").exists()


def test_bad_data_is_refused_in_a_sentence(
    tiny: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    few, empty, foreign = (tmp_path / name for name in ("few", "empty", "foreign"))
    write_pictures(few, 3)
    empty.mkdir()
    write_pictures(foreign)
    for path in foreign.glob("*.txt"):
        path.write_bytes("ein grüner Ball".encode("latin-1"))
    out = tmp_path / "run"
    for data, said in (
        (few, "got 3 whole pictures in"),
        (empty, "holds no pictures"),
        (foreign, "is not UTF-8 text"),
        (tmp_path / "none", "none"),
    ):
        assert call(script, *flags(tiny, data, out)) == 2
        error = capsys.readouterr().err
        assert said in error and error.splitlines()[-1].startswith("error: "), error
        assert not out.exists()
    good = write_pictures(tmp_path / "good")
    for more, said in (
        (("--hours", "0"), "--hours"),
        (("--hours", "0.0001"), "expected 50 or more: give --hours"),
        (("--judge", "nothing-there"), "nothing-there"),
        (("--size", "48"), "--size"),
    ):
        assert call(script, *flags(tiny, good, out), *more) == 2
        error = capsys.readouterr().err
        assert said in error and error.splitlines()[-1].startswith("error: "), error
        assert not out.exists()
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert call(script, *flags(tiny, good, out)) == 2
    assert "got 2 processes for a plan of one" in capsys.readouterr().err
    monkeypatch.delenv("WORLD_SIZE")
    assert call(script, "shapes", "--out", out) == 2
    assert "scenes without an end" in capsys.readouterr().err
