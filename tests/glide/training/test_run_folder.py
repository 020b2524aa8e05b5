"""Nothing of a training is lost: its folder is locked, models stay, errors leave a checkpoint, signals are heard."""

import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import convert
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from glide.checkpoints.load import load_model, read_config, save_model
from glide.data.datasets import open_data
from glide.networks.model import Model
from glide.training.checkpoints import Checkpoints, damage
from glide.training.config import OptimConfig, TrainConfig
from glide.training.metrics import Meters, read_log
from glide.training.step import Stepper
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils import file_locks as claims
from glide.utils.cli import run as run_script
from glide.utils.errors import InputError
from glide.utils.file_locks import FolderLock
from glide.utils.signals import Stopped
from support.launch import ROOT
from toolkit.commands.posthoc_ema import posthoc
from toolkit.commands.posthoc_ema_flags import Posthoc

CONFIG = TrainConfig(
    steps=4,
    batch_size=2,
    dtype="float32",
    ema=(0.9,),
    optim=OptimConfig(lr=1e-3, warmup=2),
    log_every=1,
    save_every=2,
    sample_every=100,
)


def settings(out: Path, **changes: Any) -> TrainBase:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))
    return TrainBase(out=out, **{"preset": "tiny", "validation_batches": 0, "train": train, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("done") / "run"
    train_base(settings(out))
    return out


def pictures(folder: Path, count: int = 40) -> Path:
    folder.mkdir()
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        (folder / f"{i}.txt").write_text("a ring")
    return folder


# --- one run at a time ------------------------------------------------------------------------------------------------


def lock(folder: Path) -> FolderLock:
    return FolderLock(folder / "run.lock", "in use by {holder}")


def test_a_folder_is_locked_for_one(tmp_path: Path) -> None:
    with lock(tmp_path / "run"):
        told = json.loads((tmp_path / "run/run.lock").read_text())
        assert told["pid"] == os.getpid()
        with (
            pytest.raises(InputError, match=rf"in use by process {os.getpid()} on .+ since \d"),
            lock(tmp_path / "run"),
        ):
            pass
        with lock(tmp_path / "other"):
            pass
    assert list((tmp_path / "run").iterdir()) == []
    with lock(tmp_path / "run"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="was not written"), lock(tmp_path / "file"):
        pass


@pytest.mark.parametrize("system", [True, False])
def test_a_lock_that_was_left_behind_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: bool
) -> None:
    """With the system's lock on files, and without."""
    if not system:
        monkeypatch.setattr(claims, "fcntl", None)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    host = claims._this_process()["host"]
    path = tmp_path / "run.lock"
    for text in (
        json.dumps({"pid": dead.pid, "host": host, "started": "long ago 1"}),
        json.dumps({"pid": os.getpid(), "host": host, "started": "by another of this number 1"}),
        json.dumps({"pid": 10**18, "host": host}),
        json.dumps({"pid": "x"}),
        "",
        "\0[" * 20,
    ):
        path.write_text(text)
        with lock(tmp_path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    path.write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "yesterday"}))
    with (
        pytest.raises(InputError, match=r"process 1 on elsewhere since yesterday .*remove .*run\.lock"),
        lock(tmp_path),
    ):
        pass
    assert path.exists()


def test_a_process_that_lives_holds_its_lock_without_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "fcntl", None)
    with (
        lock(tmp_path),
        pytest.raises(InputError, match=f"in use by process {os.getpid()} on"),
        lock(tmp_path),
    ):
        pass


@pytest.mark.slow
def test_of_two_concurrent_runs_one_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "scripts/train_base.py", "--out", str(tmp_path / "run"), "--preset", "tiny"]
    command += ["--steps", "3", "--batch-size", "2", "--dtype", "float32", "--validation-batches", "0"]
    both = [
        subprocess.Popen(
            [*command, "--seed", str(seed)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        for seed in (0, 1)
    ]
    said = [process.communicate()[0] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) == [0, 2], said
    refusal = said[codes.index(2)].strip().splitlines()[-1]
    assert refusal.startswith("error: ") and ("is in use by process" in refusal or "holds a run" in refusal)
    kept = Checkpoints(tmp_path / "run/checkpoints")
    assert kept.steps() == [3] and damage(kept.path(3)) is None
    assert read_config(tmp_path / "run")["training"]["train"]["seed"] == codes.index(0)
    assert not (tmp_path / "run/run.lock").exists()


def test_a_killed_run_resumes(done: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints/step-0000004")
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (out / "run.lock").write_text(
        json.dumps({"pid": dead.pid, "host": claims._this_process()["host"], "started": "x 1"})
    )
    train_base(settings(out, resume=True))
    assert Checkpoints(out / "checkpoints").steps() == [2, 4] and not (out / "run.lock").exists()


def test_a_refusal_leaves_nothing(tmp_path: Path) -> None:
    for flags in ({"resume": True}, {"data": str(tmp_path / "none")}, {"init": "nowhere"}):
        with pytest.raises(InputError):
            train_base(settings(tmp_path / "new", **flags))
        assert not (tmp_path / "new").exists()


# --- models stay ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_model_is_not_written_over(done: Path, tmp_path: Path, capsys: Any, name: str) -> None:
    """A training, a conversion and a post-hoc average refuse a folder where any file of a model stands."""
    out = tmp_path / "mine"
    out.mkdir()
    (out / name).write_text("precious")
    words = f"already holds a model \\({name}\\): give another --out, or --overwrite"
    with pytest.raises(InputError, match=words):
        train_base(settings(out))
    with pytest.raises(InputError, match=words):
        posthoc(Posthoc(done, out))
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["convert.py", "x.pt", "--out", str(out)])
        run_script(convert.main)
    assert "already holds a model" in capsys.readouterr().err
    with pytest.raises(InputError, match="not written: give another folder"):
        save_model(out, load_model(done))
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "precious"
    train_base(settings(out, overwrite=True))
    assert load_model(out).tokenizer is not None


def test_the_checkpoints_of_a_finished_run_are_gone(done: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints")
    weights = (out / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="already holds a model"):
        train_base(settings(out))
    with pytest.raises(InputError, match="no checkpoint"):
        train_base(settings(out, resume=True))
    assert (out / "model.safetensors").read_bytes() == weights
    with pytest.raises(InputError, match="already holds a run"):  # checkpoints are never written over
        train_base(settings(done, overwrite=True))


@pytest.mark.slow
def test_a_run_that_ended_before_its_first_checkpoint_begins_again(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(*args: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train_base(settings(tmp_path / "run", train={"save_every": 3, "sample_every": 1}), kill)
    assert read_config(tmp_path / "run")["training"]["step"] == 0
    train_base(settings(tmp_path / "run"))


# --- what a resume needs ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_all_that_a_resume_needs_is_in_the_checkpoint(
    done: Path, tmp_path: Path, name: str, how: str
) -> None:
    out = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints/step-0000004")
    if how == "cut":
        (out / name).write_bytes((out / name).read_bytes()[:-20])
    else:
        (out / name).unlink()
    train_base(settings(out, resume=True))
    one, two = (load_file(run / "checkpoints/step-0000004/model.safetensors") for run in (done, out))
    assert all((one[k] == two[k]).all() for k in one)
    assert load_model(out).tokenizer is not None


def test_a_line_of_the_log_resumes(tmp_path: Path) -> None:
    meters, again = Meters(), Meters()
    terms = {"loss": torch.tensor([1.0, 0.3]), "vb": torch.tensor([0.1, 0.7])}
    for good in (True, False, True):
        meters.add(terms, torch.tensor([10, 90]), 100, 0.1, good)
    again.restore(json.loads(json.dumps(meters.state())))
    for each in (meters, again):
        each.add(terms, torch.tensor([30, 90]), 100, 0.2, True)
    one, two = (each.line(4, 0.1, 2) for each in (meters, again))
    one.pop("images_per_second"), two.pop("images_per_second")
    assert one == two and one["skipped"] == 1 and one["loss_quarters"][2] is None
    meters.add(
        {"loss": torch.tensor([1.0]), "vb": torch.tensor([math.inf])}, torch.tensor([1]), 100, 0.1, True
    )
    for state in (meters.state(), None, [], {"means": 5}, {"means": {"a": 1}, "quarters": [], "skipped": 0}):
        again.restore(state)
        assert again.line(1, 0.1, 2)["loss"] is None


def test_a_run_of_an_older_version_resumes(done: Path, tmp_path: Path) -> None:
    """Its checkpoints have neither the sizes nor the tokenizer."""
    out = Path(shutil.copytree(done, tmp_path / "run"))
    shutil.rmtree(out / "checkpoints/step-0000004")
    older = out / "checkpoints/step-0000002"
    manifest = json.loads((older / "manifest.json").read_text())
    for name in ("config.json", "tokenizer.json"):
        (older / name).unlink()
        del manifest["files"][name]
    (older / "manifest.json").write_text(json.dumps(manifest))
    train_base(settings(out, resume=True))
    assert Checkpoints(out / "checkpoints").steps() == [2, 4]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"step": 3}, "of another step"),
        ({"files": {"../model.safetensors": [1, "x"]}}, "cannot be read"),
        ({"files": {"state.pt": 5}}, "cannot be read"),
        ({"files": {"state.pt": [1.5, None]}}, "cannot be read"),
        ({"files": {}}, "state.pt is missing"),
    ],
)
def test_a_manifest_that_lies(done: Path, tmp_path: Path, change: dict[str, Any], said: str) -> None:
    path = Path(shutil.copytree(done / "checkpoints/step-0000004", tmp_path / "step-0000004"))
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | change))
    assert said in (damage(path) or "")


# --- errors and signals -----------------------------------------------------------------------------------------------


def test_a_picture_that_vanishes_counts_as_damaged(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "data")
    data = open_data(str(folder), 16, max_broken=0.1)
    (folder / "3.png").unlink()
    (folder / "5.txt").unlink()
    (folder / "7.png").unlink()
    (folder / "7.png").mkdir()
    for step in range(5):
        assert len(data.batch(step, 8)["image"]) == 8
    assert list(data.broken) == ["3.png", "5.png", "7.png"]  # type: ignore[attr-defined]
    assert all("cannot read" in why or "regular file" in why for why in data.broken.values())  # type: ignore[attr-defined]


@pytest.mark.slow
def test_data_that_vanish_leave_a_checkpoint(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = pictures(tmp_path / "data"), tmp_path / "run"

    def vanish(model: Model, path: Path, captions: Sequence[str]) -> None:
        shutil.rmtree(folder)

    long = {"steps": 400, "save_every": 300, "sample_every": 7}
    with pytest.raises(InputError, match=r"pictures in .* are broken, more than"):
        train_base(settings(out, data=str(folder), train=long), vanish)
    kept = Checkpoints(out / "checkpoints")
    (step,) = kept.steps()
    assert step >= 7 and damage(kept.path(step)) is None and read_log(out / "log.jsonl")[-1]["step"] == step
    assert f"ended by an error after step {step}; the newest checkpoint is" in capsys.readouterr().err
    assert (out / "broken.jsonl").exists() and read_config(out)["training"]["step"] == step
    pictures(folder)
    train_base(settings(out, data=str(folder), resume=True, train=long | {"steps": step + 1}))


@pytest.mark.slow
def test_an_error_within_a_step_leaves_a_checkpoint_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    train_base(settings(tmp_path / "whole", train={"save_every": 1, "keep": 9}))
    losses, optimize, calls = Stepper.losses, Stepper.step, iter(range(9))

    def fail(self: Stepper[Any], *args: Any) -> Any:
        if next(calls) == 3:
            raise RuntimeError("out of memory, say")
        return losses(self, *args)

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="out of memory"):
        patch.setattr(Stepper, "losses", fail)
        train_base(settings(out))
    assert Checkpoints(out / "checkpoints").steps() == [2, 3]
    one, two = (
        load_file(run / "checkpoints/step-0000003/model.safetensors") for run in (out, tmp_path / "whole")
    )
    assert all((one[k] == two[k]).all() for k in one)

    def torn(self: Stepper[Any], step: int, *args: Any, **flags: Any) -> Any:
        outcome = optimize(self, step, *args, **flags)
        if step == 3:
            self.consistent = False  # as in the middle of the update
            raise RuntimeError("out of memory, say")
        return outcome

    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        patch.setattr(Stepper, "step", torn)
        train_base(settings(tmp_path / "torn"))
    assert Checkpoints(tmp_path / "torn/checkpoints").steps() == [2]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_breaks_progress_pictures_off(tmp_path: Path, name: str) -> None:
    out, drawn = tmp_path / "run", []

    def draw(model: Model, path: Path, captions: Sequence[str]) -> None:
        os.kill(os.getpid(), getattr(signal, name))
        for _ in range(600):
            time.sleep(0.1)
        drawn.append(path)

    begin = time.monotonic()
    with pytest.raises(Stopped) as stopped:
        train_base(settings(out, train={"sample_every": 1, "steps": 50}), draw)
    assert stopped.value.code == 128 + getattr(signal, name) and time.monotonic() - begin < 50 and not drawn
    assert Checkpoints(out / "checkpoints").steps() == [2]
    before = load_file(out / "checkpoints/step-0000002/model.safetensors")
    averaged = load_file(out / "model.safetensors")  # the weights were put back where they belong
    assert any((before[k] != averaged[k]).any() for k in before)
    assert all(
        (load_file(out / "checkpoints/step-0000002/ema-0.9.safetensors")[k] == averaged[k]).all()
        for k in before
    )
