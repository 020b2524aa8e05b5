"""What a run survives: kills, signals, damaged checkpoints, full disks, bad losses, changed settings."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from glide.diffusion.timestep_config import TimestepConfig
from glide.networks.model import Model
from glide.training.checkpoints import MANIFEST, Checkpoints, damage
from glide.training.config import OptimConfig, TrainConfig
from glide.training.metrics import last_line, read_log
from glide.training.objectives import DiffusionObjective
from glide.training.resume import RunFlags, changes
from glide.training.run_folder import check_run_folder
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import CannotWrite, InputError
from glide.utils.mixed_precision import LossScale
from glide.utils.signals import Stopped
from support.launch import ROOT

CONFIG = TrainConfig(
    steps=6,
    batch_size=2,
    dtype="float32",
    ema=(0.9,),
    optim=OptimConfig(lr=1e-3, muon_lr=0.02, warmup=2, cooldown=0.5),
    log_every=1,
    save_every=2,
    sample_every=100,
)


def settings(out: Path, **changes: Any) -> TrainBase:
    train = dataclasses.replace(CONFIG, **changes.pop("train", {}))
    return TrainBase(out=out, preset="tiny", dropout=0.1, train=train, **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("whole") / "run"
    train_base(settings(out))
    return out


def assert_same(a: Path, b: Path) -> None:
    for name in ("model", "ema-0.9"):
        x, y = (load_file(run / f"checkpoints/step-0000006/{name}.safetensors") for run in (a, b))
        assert x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x), name
    assert [line["loss"] for line in read_log(a / "log.jsonl")] == [
        line["loss"] for line in read_log(b / "log.jsonl")
    ]


# --- checkpoints ------------------------------------------------------------------------------------------------------


def put(kept: Checkpoints, step: int, size: int = 10) -> None:
    def files(folder: Path) -> None:
        save_file({"x": torch.full((size,), float(step))}, folder / "model.safetensors")
        torch.save({"step": step}, folder / "state.pt")

    kept.write(step, files, {"settings": {"a": 1}})


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """As on a full disk: writing fails in the middle."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.slow
def test_the_newest_and_every_so_many_are_kept(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c", keep=2, every=4)
    (tmp_path / "c/step-0000009.tmp").mkdir(parents=True)
    for step in range(1, 11):
        put(kept, step)
    assert kept.steps() == [4, 8, 9, 10]
    assert sorted(path.name for path in (tmp_path / "c").iterdir()) == [
        kept.path(s).name for s in kept.steps()
    ]
    put(kept, 10, 20)  # over one that is there
    assert load_file(kept.path(10) / "model.safetensors")["x"].shape == (20,)
    assert kept.newest_to(9) == kept.path(9) and kept.newest_to(3) is None
    kept.set_aside(8)
    assert kept.steps() == [4, 8] and (tmp_path / "c/diverged-0000010").is_dir()


def test_damage_is_found_and_an_older_one_is_used(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, keep=9)
    for step in (1, 2, 3, 4, 5):
        put(kept, step)
        assert damage(kept.path(step)) is None
    weights = [kept.path(step) / "model.safetensors" for step in range(6)]
    weights[2].unlink()
    weights[3].write_bytes(weights[3].read_bytes()[:-1])
    flipped = bytearray(weights[4].read_bytes())
    flipped[-1] ^= 1
    weights[4].write_bytes(flipped)
    (kept.path(5) / MANIFEST).write_text("{")
    faults = [damage(kept.path(step)) or "" for step in (2, 3, 4, 5)]
    for fault, said in zip(
        faults, ("is missing", "were written", "is not what", "cannot be read"), strict=True
    ):
        assert said in fault
    with pytest.warns(UserWarning, match="is damaged") as caught:
        assert kept.newest_good() == kept.path(1)
    assert len(caught) == 4


def test_checkpoints_of_older_versions_are_read(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    put(kept, 1)
    put(kept, 2)
    for step in (1, 2):
        (kept.path(step) / MANIFEST).unlink()
    assert kept.newest_good() == kept.path(2)
    (kept.path(2) / "model.safetensors").write_bytes(b"cut")
    with pytest.warns(UserWarning, match="step-0000002 is damaged"):
        assert kept.newest_good() == kept.path(1)


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path / "c")
    put(kept, 1)
    for step in (1, 2):
        with files_no_larger_than(3000), pytest.raises(CannotWrite, match="was not written"):
            put(kept, step, size=100_000)
    assert kept.steps() == [1] and damage(kept.path(1)) is None
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["step-0000001"]
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotWrite):
        put(Checkpoints(tmp_path / "file"), 1)


def test_when_a_run_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not check_run_folder(tmp_path, False)
    (tmp_path / "checkpoints/step-0000002.tmp").mkdir(parents=True)  # killed in its first checkpoint
    assert not check_run_folder(tmp_path, False)
    with pytest.raises(InputError, match="no checkpoint in"):
        check_run_folder(tmp_path, True)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert not check_run_folder(tmp_path, True)
    put(Checkpoints(tmp_path / "checkpoints"), 2)
    assert check_run_folder(tmp_path, False)
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    assert check_run_folder(tmp_path, True)
    with pytest.raises(InputError, match="already holds a run"):
        check_run_folder(tmp_path, False)


# --- runs -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_saves_and_leaves(
    whole: Path, tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(model: Model, path: Path, captions: Sequence[str]) -> None:
        os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped:
        train_base(settings(tmp_path / "run", train={"sample_every": 2}), ask)
    assert stopped.value.code == 128 + number and signal.getsignal(number) is before
    assert "after step 3; the newest checkpoint is" in capsys.readouterr().err
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == [2, 3]
    train_base(settings(tmp_path / "run", resume=True))
    assert_same(whole, tmp_path / "run")


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run/checkpoints/step-0000006/model.safetensors").write_bytes(b"damaged")
    with (tmp_path / "run/log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')  # cut short
    with pytest.warns(UserWarning, match="step-0000006 is damaged .* an older one"):
        train_base(settings(tmp_path / "run", resume=True))
    assert_same(whole, tmp_path / "run")
    for path in (tmp_path / "run/checkpoints").glob("step-*/state.pt"):
        path.unlink()
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(InputError, match="that is whole"):
        train_base(settings(tmp_path / "run", resume=True))


@pytest.mark.slow
def test_a_full_disk_does_not_end_the_run(tmp_path: Path) -> None:
    out = tmp_path / "run"

    def fill(model: Model, path: Path, captions: Sequence[str]) -> None:
        """From step 3 on nothing can be written in the folder of checkpoints, until step 5."""
        if path.stem == "0000003":
            (out / "checkpoints").rename(out / "away")
            (out / "checkpoints").write_text("in the way")
        if path.stem == "0000005":
            (out / "checkpoints").unlink()
            (out / "away").rename(out / "checkpoints")

    with pytest.warns(UserWarning, match=r"step-0000004 was not written .*training goes on"):
        train_base(settings(out, train={"sample_every": 1}), fill)
    assert Checkpoints(out / "checkpoints").steps() == [2, 6]


def broken_at(monkeypatch: pytest.MonkeyPatch, *calls: int) -> None:
    """The task's losses are not a number in these calls, counted from 0."""
    real, count = DiffusionObjective.__call__, iter(range(10**6))

    def call(self: DiffusionObjective, *args: Any) -> dict[str, torch.Tensor]:
        terms = real(self, *args)
        return {k: v * float("nan") for k, v in terms.items()} if next(count) in calls else terms

    monkeypatch.setattr(DiffusionObjective, "__call__", call)


@pytest.mark.slow
def test_a_step_that_is_not_finite_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_at(monkeypatch, 1, 3)
    model = train_base(settings(tmp_path / "run"))
    assert all(p.isfinite().all() for p in model.parameters())
    lines = read_log(tmp_path / "run/log.jsonl")
    assert [line["loss"] is None for line in lines] == [False, True, False, True, False, False]
    assert [line.get("skipped", 0) for line in lines] == [0, 1, 0, 1, 0, 0]
    # checkpoints of steps 2 and 4 were put off by one
    assert Checkpoints(tmp_path / "run/checkpoints").steps() == [5, 6]


@pytest.mark.slow
def test_after_several_in_a_row_the_run_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        broken_at(patched, 4, 5, 6)
        with pytest.raises(InputError, match=r"the loss is nan .* at step 5, the last of 2 .*step-0000002"):
            train_base(settings(out, train={"max_skipped": 2, "steps": 8, "keep": 5}))
    # step 4's weights gave no finite loss
    assert Checkpoints(out / "checkpoints").steps() == [2] and (out / "checkpoints/diverged-0000004").is_dir()
    train_base(settings(out, resume=True, train={"steps": 8}))
    with monkeypatch.context() as patched:
        broken_at(patched, *range(9))
        with pytest.raises(InputError, match="There is no good checkpoint"):
            train_base(settings(tmp_path / "other", train={"max_skipped": 3}))


def test_changed_settings_are_reported_or_refused(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    out = tmp_path / "run"
    shutil.rmtree(out / "checkpoints/step-0000006")
    with pytest.raises(InputError, match=r"--preset shapes-32: this run has tiny.*leave the flag out"):
        train_base(dataclasses.replace(settings(out, resume=True), preset="shapes-32"))
    with pytest.raises(InputError, match=r"--ema 0\.5: this run has 0\.9"):
        train_base(settings(out, resume=True, train={"ema": (0.5,)}))
    with pytest.raises(InputError, match=r"--muon-lr 0\.0: this run has 0\.02"):
        train_base(settings(out, resume=True, train={"optim": OptimConfig(lr=1e-3)}))
    with pytest.raises(InputError, match=r"--timesteps loss_second_moment: this run has uniform"):
        train_base(settings(out, resume=True, practice=TimestepConfig("loss_second_moment")))
    capsys.readouterr()
    changed = dataclasses.replace(settings(out, resume=True, train={"batch_size": 3}), preset=None)
    train_base(changed)  # a flag of the folder that is left out changes nothing
    assert "changed: --batch-size 3, before 2" in "".join(capsys.readouterr())


def test_changes() -> None:
    new = RunFlags({"a": 1, "b": [1, 2], "c": None}, {"c": None}, frozen=("c",))
    assert changes({"a": 2, "b": [1], "c": "x"}, new) == ["--a 1, before 2", "--b 1 2, before 1"]
    assert changes({}, new) == []


def test_log_lines(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    assert last_line(path) is None
    path.write_text('{"step": 1}\n[]\n{"step": 2}\n{"st')
    assert [line["step"] for line in read_log(path)] == [1, 2] and last_line(path) == {"step": 2}


# --- float16 ----------------------------------------------------------------------------------------------------------


def test_the_loss_scale_halves_and_doubles() -> None:
    scale = LossScale("float16", patience=3)
    scale.update(False)
    assert scale.factor == 2.0**15 and scale.searching
    for _ in range(3):
        scale.update(True)
    assert scale.factor == 2.0**16
    again = LossScale("float16")
    again.load_state_dict(json.loads(json.dumps(scale.state_dict())))
    assert again.factor == scale.factor
    for _ in range(40):
        scale.update(False)
    assert scale.factor == 1.0 and not scale.searching
    other = LossScale("bfloat16")
    other.update(False)
    assert other.factor == 1.0 and other.state_dict() == {}


@pytest.mark.slow
def test_float16_trains_as_float32_does(whole: Path, tmp_path: Path) -> None:
    train_base(settings(tmp_path / "run", train={"dtype": "float16"}))
    half, full = ([line["loss"] for line in read_log(run / "log.jsonl")] for run in (tmp_path / "run", whole))
    assert half[0] == pytest.approx(full[0], rel=1e-2)
    assert all(loss is not None for loss in half)


# --- kill -9 ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path: Path) -> None:
    """`benchmarks/kills.py --kills 100` is the long form of this."""
    command = [
        sys.executable,
        "benchmarks/kills.py",
        "--kills",
        "3",
        "--steps",
        "20",
        "--out",
        str(tmp_path / "k"),
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kills" in done.stdout and "runs are the same bit for bit" in done.stdout
