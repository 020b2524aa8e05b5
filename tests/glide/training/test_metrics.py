"""What a run shows of itself: validation, trackers, the strip, curves, its share of the peak, and the dry run."""

import dataclasses
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import train_base as train_base_script
from PIL import Image
from torch import nn

from glide.data.datasets import open_data
from glide.diffusion.loss_config import LossConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.training.config import OptimConfig, TrainConfig
from glide.training.curves import draw_curves
from glide.training.metrics import Meters, read_log
from glide.training.objectives import DiffusionObjective
from glide.training.trackers import open_trackers, scalars
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.training.validation import Validation
from glide.utils.contact_sheet import MARGIN, STEP_MARGIN, row_height, write_strip
from glide.utils.errors import InputError
from glide.utils.hardware import flops_of, measured_peak, memory_in_use
from support.launch import ROOT
from support.sample_script import Capture
from support.scripts import call
from toolkit.pipelines.training_preview import sample_grid

CONFIG = TrainConfig(
    steps=24, batch_size=2, dtype="float32", ema=(0.9,), log_every=2, save_every=100, sample_every=12
)


@pytest.mark.slow
def test_a_run_shows_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    told: list[tuple[int, dict[str, float]]] = []
    run = types.SimpleNamespace(
        log=lambda values, step: told.append((step, values)), finish=lambda: told.append((0, {})), id="run"
    )
    module = types.ModuleType("wandb")
    module.init = lambda **kw: run  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "wandb", module)

    def watch(model: Model, path: Path, captions: Any) -> None:
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 38), "red").save(path)

    out = tmp_path / "run"
    train = dataclasses.replace(CONFIG, track=("wandb",))
    train_base(TrainBase(out=out, preset="tiny", train=train, validation_batches=2), watch)
    lines, held_out = read_log(out / "log.jsonl"), read_log(out / "validation.jsonl")
    assert "share_of_peak" not in lines[8] and 0 < lines[-1]["share_of_peak"] < 2
    assert all(line["memory_gib"] > 0.05 for line in lines)
    assert [line["step"] for line in held_out] == [12, 24]
    assert all(0 < line["validation_loss"] < 2 and len(line["validation_quarters"]) == 4 for line in held_out)
    with Image.open(out / "samples/strip.png") as strip:
        assert strip.size == (STEP_MARGIN + 40, 2 * 20)  # pictures are 16 wide and high, and their frame 4
    with Image.open(out / "curves.png") as curves:
        assert curves.width > 800
    assert told[-1] == (0, {}) and {step for step, _ in told} == {0, *range(2, 25, 2)}
    assert any("validation_loss" in values for _, values in told)
    assert all(isinstance(v, float | int) for _, values in told for v in values.values())


def test_validation_is_the_tasks_loss(text_model: Model) -> None:
    data = open_data("shapes", 8, split="held_out")
    task = DiffusionObjective(LossConfig(), null_captions=1.0 - 1e-9)  # the tokenizer knows few words
    validate = Validation(task, data, 2, 6, 100, seed=3, dtype="float32")
    assert sorted(validate.t.tolist()) == [int((i + 0.5) * 100 / 12) for i in range(12)]
    said = validate(text_model)
    assert said == validate(text_model)
    assert said["validation_loss"] == pytest.approx(sum(said["validation_quarters"]) / 4, rel=1e-5)
    # the rows are the same however they are cut
    other = Validation(task, data, 2, 6, 100, seed=3, dtype="float32")
    other.parts = [{k: v[a : a + 3] for k, v in part.items()} for part in validate.parts for a in (0, 3)]
    assert other(text_model)["validation_loss"] == pytest.approx(said["validation_loss"], rel=1e-5)


def test_meters() -> None:
    meters = Meters()
    t = torch.tensor([0, 30, 60, 99])
    meters.add({"loss": torch.tensor([1.0, 2.0, 3.0, 6.0])}, t, 100, 0.5, True)
    meters.add({"loss": torch.full((4,), float("nan"))}, t, 100, float("inf"), False)
    line = meters.line(7, 0.25, 4)
    assert (
        line["loss"] == 3.0 and line["loss_quarters"] == [1.0, 2.0, 3.0, 6.0] and line["gradient_norm"] == 0.5
    )
    assert line["skipped"] == 1 and line["rate"] == 0.25 and line["images_per_second"] > 0
    assert json.loads(json.dumps(meters.line(8, 0.25, 4)))["loss"] is None
    found = dict(scalars({"step": 1, "loss": 2.0, "x": None, "loss_quarters": [1.0, None, 3.0]}))
    assert found == {"loss": 2.0, "loss_quarters/1": 1.0, "loss_quarters/3": 3.0}


def test_trackers_that_are_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "wandb", "trackio"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(
            InputError, match=rf"--track {name}: it is not installed.*glide-toolkit\[{name}\]"
        ):
            open_trackers((name,), tmp_path, {})  # type: ignore[arg-type]


def test_a_tracker_that_cannot_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**asked: Any) -> None:
        raise RuntimeError("No API key configured.\nUse `wandb login`")

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    train = dataclasses.replace(CONFIG, track=("wandb",))
    with pytest.raises(
        InputError, match=r"--track wandb: .*\(No API key configured. Use `wandb login`\): log in"
    ):
        train_base(TrainBase(out=tmp_path / "run", preset="tiny", train=train))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_resumed_run_continues_its_curves(
    name: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[dict[str, Any]] = []
    logged: list[tuple[dict[str, float], int]] = []

    class Run:
        def __init__(self) -> None:
            self.id = f"id{len(begun)}"

        def log(self, values: dict[str, float], step: int) -> None:
            logged.append((values, step))

        def finish(self) -> None: ...

    def init(**asked: Any) -> Run:
        begun.append(asked)
        return Run()

    monkeypatch.setitem(sys.modules, name, types.SimpleNamespace(init=init))
    for resume in (False, True, False):
        (tracker,) = open_trackers((name,), tmp_path / "run", {"lr": 1.0}, resume)
        tracker.log({"loss": 2.0}, 3)
        tracker.close()
    assert logged == [({"loss": 2.0}, 3)] * 3
    assert [asked.get("resume") for asked in begun] == [None, "allow", None]
    assert [asked.get("id") for asked in begun] == [None, "id1" if name == "wandb" else None, None]
    assert all(asked["name"] == "run" and asked["config"] == {"lr": 1.0} for asked in begun)


def test_the_machines_numbers() -> None:
    device = torch.device("cpu")
    assert 1e8 < measured_peak(device, "float32") < 1e15 and memory_in_use(device) > 0.05
    conv = nn.Conv2d(3, 5, 3, padding=1)
    assert flops_of(lambda: conv(torch.zeros(2, 3, 8, 8))) == 3 * 2 * (2 * 64) * 5 * 3 * 9


def test_a_strip_of_many_grids(tmp_path: Path) -> None:
    assert write_strip(tmp_path, 10) is None
    for step in range(1, 31):
        Image.new("RGB", (12, 30), (8 * step, 0, 0)).save(tmp_path / f"{step:07d}.png")
    (tmp_path / "other.png").write_bytes(b"")
    for _ in range(2):  # its own file is none of the grids
        path = write_strip(tmp_path, 10, rows=4)
    assert path is not None
    with Image.open(path) as strip:
        assert strip.size == (STEP_MARGIN + 12, 40)
        reds = [strip.getpixel((STEP_MARGIN + 5, 10 * i + 5)) for i in range(4)]
    assert [pixel[0] for pixel in reds if isinstance(pixel, tuple)] == [8, 88, 160, 240]


def test_curves_of_a_short_log(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    assert draw_curves(tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["base", "classifier", "clip", "upsampler"])
def test_the_dry_run_of_every_script(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from guidance.classifier.train import train_classifier
    from guidance.classifier.train_flags import TrainClassifier
    from guidance.clip.train import train_clip
    from guidance.clip.train_flags import TrainClip
    from upsampler.train import train_upsampler
    from upsampler.train_flags import TrainUpsampler

    train = dataclasses.replace(CONFIG, dry_run=True, steps=100_000, optim=OptimConfig(muon_lr=0.01))
    out = tmp_path / "run"
    if name == "base":
        train_base(TrainBase(out=out, preset="tiny", train=train))
    elif name == "upsampler":
        train_upsampler(TrainUpsampler(out=out, preset="tiny-upsampler", train=train))
    elif name == "classifier":
        train_classifier(
            TrainClassifier(out=out, data="shapes:one", preset="tiny", held_out_images=4, train=train)
        )
    else:
        train_clip(TrainClip(out=out, preset="tiny", held_out_pairs=4, train=train))
    said = "".join(capsys.readouterr())
    for words in (
        "million weights, 1 process on cpu",
        "memory: ",
        "a checkpoint: ",
        "expected in all: ",
        "100000 steps",
    ):
        assert words in said, said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_flag(tmp_path: Path, capsys: Capture) -> None:
    flags = "--preset tiny --batch-size 2 --dry-run --dtype float32 --device cpu"
    assert call(train_base_script, "--out", tmp_path / "x", *flags.split()) == 0
    assert "nothing was written" in capsys.readouterr().out
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_the_overhead_is_measured() -> None:
    command = [
        sys.executable,
        "benchmarks/training_overhead.py",
        "--preset",
        "tiny",
        "--batch-size",
        "2",
        "--steps",
        "3",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "optimizer" in done.stdout and "overhead " in done.stdout


@pytest.mark.slow
def test_progress_pictures_have_their_captions(tmp_path: Path) -> None:
    config = PRESETS["tiny"]
    tokenizer = Tokenizer.train(["a red circle", "two stars"], 300, 24)
    text = dataclasses.replace(config.text, vocab=tokenizer.n_vocab, context=tokenizer.context)
    model = Model(dataclasses.replace(config, text=text), tokenizer)
    row = sample_grid(model, tmp_path / "a.png", ["a red circle", "two stars"])
    side = 96  # of the model's 16 pixels, enlarged for the captions to be read
    assert row == row_height(side)
    with Image.open(tmp_path / "a.png") as file:
        sheet = np.asarray(file.convert("L"))
    assert sheet.shape == (row, 4 * (side + 2 * MARGIN))
    below = sheet[side + MARGIN :]
    assert (below < 128).sum() > 100  # letters
    other = Model(dataclasses.replace(config, text=None, num_classes=0))
    row = sample_grid(other, tmp_path / "b.png", [])
    assert row == config.unet.image_size + 4  # no captions: a grid


@pytest.mark.slow
def test_curves_are_drawn_as_the_run_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    drawn: list[int] = []
    monkeypatch.setattr(
        "glide.training.run.draw_curves",
        lambda out: drawn.append(len((out / "log.jsonl").read_text().split())),
    )
    train = dataclasses.replace(CONFIG, steps=6, sample_every=2, log_every=1)
    train_base(TrainBase(out=tmp_path / "run", preset="tiny", train=train, validation_batches=0))
    assert len(drawn) == 4 and drawn == sorted(drawn)  # three times on the way, and at the end
