"""Two processes train the same model as one: DDP, FSDP2, accumulation, dropout; and what is said when one is lost."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from glide.networks.layers import Dropout
from glide.training.config import OptimConfig, TrainConfig
from glide.training.distributed import Processes, start
from glide.training.row_rng import DropoutRows, RowRng, derive_seed
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from support.launch import ROOT, finished, free_port, started

FLAGS = (
    "--preset tiny --steps 6 --batch-size 4 --dtype float32 --ema 0.9 --lr 1e-4 --dropout 0.1 --device cpu "
    "--log-every 1 --save-every 3 --keep 9 --sample-every 100"
)
CONFIG = TrainConfig(
    steps=6,
    batch_size=4,
    dtype="float32",
    ema=(0.9,),
    optim=OptimConfig(lr=1e-4),
    log_every=1,
    save_every=3,
    keep=9,
    sample_every=100,
)


MUON = ("--muon-lr", "0.01", "--steps", "3")
CLIP = "--data shapes:one --preset tiny --steps 3 --batch-size 4 --dtype float32 --lr 1e-4 --ema 0.9 --log-every 1"
CLIP += " --save-every 3 --sample-every 100 --held-out-pairs 4 --levels 2 --device cpu"
TWO: dict[str, tuple[str, ...]] = {
    "ddp": ("train_base.py", *FLAGS.split()),
    "fsdp": ("train_base.py", *FLAGS.split(), "--shard"),
    "muon, ddp": ("train_base.py", *FLAGS.split(), *MUON),
    "muon, fsdp": ("train_base.py", *FLAGS.split(), *MUON, "--shard"),
    "clip, ddp": ("train_clip.py", *CLIP.split()),
    "clip, fsdp": ("train_clip.py", *CLIP.split(), "--shard"),
}
"""The trainings of two processes, by the names of their folders."""
ALONE = {"muon, one": TWO["muon, ddp"], "clip, one": TWO["clip, ddp"]}


def run_all(folder: Path, runs: dict[str, tuple[str, ...]], world: int) -> None:
    """Train each in turn, in processes that are started once."""
    commands = [
        (str(free_port()), script, "--out", str(folder / name), *flags)
        for name, (script, *flags) in runs.items()
    ]
    (folder / f"{world}.json").write_text(json.dumps(commands))
    results = finished(started(world, "tests/support/in_turn.py", str(folder / f"{world}.json")))
    assert [code for code, _ in results] == [0] * world, results
    assert "warning" not in results[0][1], results[0][1]


def one(out: Path, **changes: Any) -> Path:
    resume = changes.pop("resume", False)
    train = dataclasses.replace(CONFIG, **changes)
    train_base(TrainBase(out=out, preset="tiny", dropout=0.1, train=train, resume=resume, device="cpu"))
    return out


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


def weights(out: Path, name: str = "model") -> dict[str, torch.Tensor]:
    return load_file(out / f"checkpoints/step-0000006/{name}.safetensors")


def assert_near(a: Path, b: Path, atol: float = 1e-5) -> None:
    assert losses(a) == pytest.approx(losses(b), rel=1e-5)
    x, y = weights(a, "ema-0.9"), weights(b, "ema-0.9")
    assert x.keys() == y.keys()
    assert max((x[k] - y[k]).abs().max().item() for k in x) <= atol


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all of `TWO` has been trained by two processes."""
    made = tmp_path_factory.mktemp("runs")
    run_all(made, TWO, 2)
    return made


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The same folder, with `ALONE` trained by one: by scripts, too, which multiply in what is fast here."""
    run_all(folder, ALONE, 1)
    return folder


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    return one(folder / "one")


@pytest.fixture(scope="module")
def ddp(folder: Path) -> Path:
    return folder / "ddp"


@pytest.fixture(scope="module")
def fsdp(folder: Path) -> Path:
    return folder / "fsdp"


@pytest.mark.slow
def test_two_processes_are_one(whole: Path, ddp: Path) -> None:
    assert_near(whole, ddp)


@pytest.mark.slow
def test_two_processes_are_bit_for_bit_one_in_two_parts(folder: Path, ddp: Path, threads: None) -> None:
    """Halving is exact, so even the sums are rounded alike."""
    torch.set_num_threads(1)  # as the two processes have
    parts = one(folder / "parts", accumulate=2)
    assert losses(parts) == losses(ddp)
    for name in ("model", "ema-0.9"):
        x, y = weights(parts, name), weights(ddp, name)
        assert all(torch.equal(x[k], y[k]) for k in x), name


@pytest.mark.slow
def test_sharded_equals_ddp_and_resumes_in_one_process(folder: Path, ddp: Path, fsdp: Path) -> None:
    assert_near(fsdp, ddp)
    shutil.copytree(fsdp, folder / "resumed")
    shutil.rmtree(folder / "resumed/checkpoints/step-0000006")
    assert_near(one(folder / "resumed", resume=True), ddp)
    assert weights(fsdp).keys() == weights(ddp).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon, ddp", "muon, fsdp"])
def test_muon_over_processes(alone: Path, name: str) -> None:
    """Matrices are whole where Muon needs them. Its bfloat16, where that is fast, magnifies the last bits: 1e-3."""
    assert losses(alone / name) == pytest.approx(losses(alone / "muon, one"), rel=1e-3)
    x, y = (
        load_file(alone / run / "checkpoints/step-0000003/model.safetensors") for run in (name, "muon, one")
    )
    assert max((x[k] - y[k]).abs().max().item() for k in x) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("name", ["clip, ddp", "clip, fsdp"])
def test_a_clip_over_processes(alone: Path, name: str) -> None:
    """All pairs of the global batch are compared, and its temperature, a scalar, is no part of a sharded weight."""
    assert losses(alone / name) == pytest.approx(losses(alone / "clip, one"), rel=1e-5)
    x, y = (
        load_file(alone / run / "checkpoints/step-0000003/ema-0.9.safetensors") for run in (name, "clip, one")
    )
    assert max((x[k] - y[k]).abs().max().item() for k in x) < 1e-5


# --- processes that are lost ------------------------------------------------------------------------------------------

ENDLESS = ("--steps", "100000", "--save-every", "2", "--log-every", "1000")


def wait_for(path: Path, running: list[subprocess.Popen[str]], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < deadline and all(process.poll() is None for process in running)
        time.sleep(0.01)


@pytest.mark.slow
def test_a_lost_process_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    running = started(2, "scripts/train_base.py", "--out", str(tmp_path / "run"), *FLAGS.split(), *ENDLESS)
    wait_for(tmp_path / "run/checkpoints/step-0000002", running)
    running[1].kill()
    begin = time.monotonic()
    (code, said), _ = finished(running)
    assert time.monotonic() - begin < 60 and code == 2
    assert "error: process 0 of 2 stopped, as another one has ended" in said and "Traceback" not in said


@pytest.mark.slow
def test_a_signal_to_one_stops_all(tmp_path: Path) -> None:
    running = started(2, "scripts/train_base.py", "--out", str(tmp_path / "run"), *FLAGS.split(), *ENDLESS)
    wait_for(tmp_path / "run/checkpoints/step-0000002", running)
    running[1].send_signal(signal.SIGTERM)
    results = finished(running)
    assert [code for code, _ in results] == [143, 143], results
    assert "stopped by SIGTERM after step" in results[0][1] and "--resume" in results[0][1]


@pytest.mark.slow
def test_torchrun_takes_a_lost_run_up_again(tmp_path: Path, ddp: Path) -> None:
    """One worker is killed after the first checkpoint; what comes out is what two processes make undisturbed."""
    out = tmp_path / "run"
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1"]
    command += ["--master-port", str(free_port()), "scripts/train_base.py", "--out", str(out), *FLAGS.split()]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wait_for(out / "checkpoints/step-0000003", [process])
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        process.kill()
        pytest.skip("the system does not list a process's children")
    os.kill(int(children.read_text().split()[-1]), signal.SIGKILL)
    (code, said), *_ = finished([process])
    assert code == 0, said
    assert losses(out) == losses(ddp)
    x, y = weights(out), weights(ddp)
    assert all(torch.equal(x[k], y[k]) for k in x)


# --- what makes it so -------------------------------------------------------------------------------------------------


def test_draws_belong_to_rows() -> None:
    like = torch.zeros(6, 3, 4, 4)
    whole = RowRng(5, range(6))
    first, rest = RowRng(5, range(2)), RowRng(5, range(2, 6))
    for _ in range(2):
        assert torch.equal(whole.normal(like), torch.cat([first.normal(like[:2]), rest.normal(like[2:])]))
        assert torch.equal(whole.uniform(), torch.cat([first.uniform(), rest.uniform()]))
    x = RowRng(6, range(2000)).normal(torch.zeros(2000, 16))
    assert abs(x.mean().item()) < 0.02 and abs(x.std().item() - 1) < 0.02
    assert len({derive_seed(a, b) for a in range(50) for b in range(-50, 50)}) == 5000


def test_dropout_belongs_to_rows() -> None:
    net = nn.Sequential(Dropout(0.3), Dropout(0.3), Dropout(0.0)).train()
    rows = DropoutRows(net)
    assert len(rows.layers) == 2
    x = torch.ones(21, 8, 5, 5)
    rows.at(7, 0)
    whole = net(x)
    parts = []
    for a, b in ((0, 3), (3, 8), (8, 19), (19, 21)):
        rows.at(7, a)
        parts.append(net(x[a:b]))
    assert torch.equal(whole, torch.cat(parts))
    assert abs(whole.mean().item() - 1) < 0.1
    assert whole.unique().tolist() == pytest.approx([0.0, 1 / 0.49])
    rows.at(8, 0)
    assert not torch.equal(whole, net(x))
    rows.off()
    assert net[0].rows is None and torch.equal(net.eval()(x), x)


def test_rows_are_shared_evenly() -> None:
    assert [list(Processes(rank, 3).rows(6)) for rank in range(3)] == [[0, 1], [2, 3], [4, 5]]
    with pytest.raises(InputError, match="--batch-size 7 cannot be shared evenly by 3"):
        Processes(0, 3).rows(7)


def test_a_process_loads_only_its_own_rows() -> None:
    class Data:
        def batch(self, step: int, size: int, rows: range | None = None) -> dict[str, Any]:
            return {"step": step, "rows": range(size) if rows is None else rows}

    data: Any = Data()
    for rank, world, rows in ((0, 1, range(6)), (1, 3, range(2, 4))):
        batches = Processes(rank, world).batches(data, 5, 6, workers=2)
        assert [next(batches) for _ in range(3)] == [{"step": step, "rows": rows} for step in (5, 6, 7)]
        batches.close()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert start("cpu") == Processes()
    with pytest.raises(InputError, match="got the device 'nonsense'"):
        start("nonsense")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="there is no GPU here"):
        start("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="several processes cannot all take it"):
        start("cuda:1")
