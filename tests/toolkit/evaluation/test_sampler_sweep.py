"""The sweep over solvers: its parts against what is known, and the whole of it at tiny size."""

import csv
import math
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

from glide.checkpoints.load import save_model
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.samplers.registry import SAMPLERS
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.shapes.dataset import captions_for_tokenizer
from glide.utils.errors import InputError
from support.models import randomised
from support.sample_script import ROOT, Capture
from toolkit.commands.solver_sweep import check, solver_sweep
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.evaluation.sampler_sweep import Line, most_steps, network_calls, plan
from toolkit.evaluation.solver_points import SolverPoint, standard_error, table
from toolkit.pipelines.settings import SamplingConfig

PROCESS = make_process("linear")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the built-in scenes, 16x16, of random weights."""
    folder = tmp_path_factory.mktemp("models")
    model = Model(PRESETS["tiny"], Tokenizer.train(captions_for_tokenizer(), 512, 24))
    save_model(folder / "model", randomised(model, seed=4))
    return folder


def small(folder: Path, out: Path, **changes: Any) -> SolverSweep:
    sizes: dict[str, Any] = {"captions": 3, "calls": (2, 4), "steps": 6, "batch_size": 3}
    return SolverSweep(**{"model": str(folder / "model"), "out": out, "device": "cpu", **sizes, **changes})


def test_network_calls_are_counted() -> None:
    process = PROCESS.respaced([100, 200, 300, 400, 500])
    calls = {name: network_calls(process, name) for name in SAMPLERS}
    assert calls == {**dict.fromkeys(SAMPLERS, 5), "heun": 9, "plms": 6}
    assert network_calls(PROCESS.respaced([0, 500]), "heun") == 3  # of a leap both ends are seen


@pytest.mark.parametrize(
    ("sampler", "budget", "steps"), [("ddim", 7, 7), ("heun", 9, 5), ("heun", 8, 4), ("plms", 7, 6)]
)
def test_as_many_steps_as_the_calls_allow(sampler: str, budget: int, steps: int) -> None:
    settings = SamplingConfig(sampler, spacing="trailing")
    assert most_steps(PROCESS, settings, budget) == steps
    assert most_steps(PROCESS, settings, 1) == 1


def test_lines() -> None:
    assert Line.parse("heun") == Line("heun", "heun", None, None)
    assert Line.parse("dpmpp-2m-sde:12@log-snr") == Line(
        "dpmpp-2m-sde:12@log-snr", "dpmpp-2m-sde", 12, "log-snr"
    )
    assert (Line.parse("ddpm:250").calls, Line.parse("unipc@karras").spacing) == (250, "karras")
    points = plan(
        [Line.parse("heun@trailing"), Line.parse("ddpm:9")], (5, 7), SamplingConfig("ddim", "50"), PROCESS
    )
    found = [(line, s.sampler, s.respacing, s.spaced) for line, s in points]
    assert found == [
        ("heun@trailing", "heun", "3", "trailing"),
        ("heun@trailing", "heun", "4", "trailing"),
        ("ddpm:9", "ddpm", "9", "uniform"),
    ]
    assert len(check(SolverSweep())) == len(SAMPLERS) + 1


def test_the_table() -> None:
    one = SolverPoint("a", "ddim", "uniform", 5, 5, 3, 4, 0.75, standard_error(3, 4), 0.1234, 1.0)
    two = SolverPoint("b", "ddpm", "uniform", 9, 9, 4, 4, 1.0, standard_error(4, 4), math.nan, 1.0)
    assert table([one, two]).splitlines() == [
        "| solver | 5 calls | 9 calls |",
        "|---|---|---|",
        "| a | 75.0 (0.123) |  |",
        "| b |  | 100.0 |",
    ]
    assert standard_error(50, 100) == pytest.approx(0.05) and standard_error(4, 4) > 0


@pytest.mark.slow
def test_a_sweep(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    args = small(folder, tmp_path, solver=("ddim", "heun@karras", "dpmpp-2m-sde", "ddpm:5", "ddim:6"))
    points = solver_sweep(args)
    with (tmp_path / "solvers.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["spacing"], int(row["steps"]), int(row["calls"])) for row in rows] == [
        ("ddim, 6 steps", "uniform", 6, 6),
        ("ddim", "uniform", 2, 2),
        ("ddim", "uniform", 4, 4),
        *[("heun@karras", "karras", p.steps, p.calls) for p in points[3:5]],
        ("dpmpp-2m-sde", "uniform", 2, 2),
        ("dpmpp-2m-sde", "uniform", 4, 4),
        ("ddpm:5", "uniform", 5, 5),
        ("ddim:6", "uniform", 6, 6),
    ]
    assert points[3].calls <= 2 and points[4].calls <= 4
    reference, *others = points
    assert reference.distance == 0.0 == others[-1].distance  # the same noise, the same pictures
    assert all(math.isnan(p.distance) == (p.sampler in ("ddpm", "dpmpp-2m-sde")) for p in points)
    assert all(p.distance > 0.0 for p in others[:4])
    assert all(p.asked == 3 and 0 <= p.accuracy <= 1 for p in points)
    assert (tmp_path / "solvers.md").read_text().startswith("| solver | 1 calls | 2 calls |")
    names = {path.name for path in tmp_path.glob("*.png")}
    assert {"solvers.png", "ddim-6-steps-6.png", "ddim-4.png", "ddpm-5-5.png"} < names and len(names) == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"captions": 0}, "--captions 0"),
        ({"calls": (0,)}, "--calls 0, expected a whole number of at least 1"),
        ({"calls": ()}, "--calls without a number"),
        ({"solver": ("ddim:0",)}, "the solver ddim with the calls 0"),
        ({"solver": ("magic",)}, "got the sampler 'magic'"),
        ({"solver": ("heun@even",)}, "got the spacing 'even'"),
        ({"solver": ("heun@karras:5",)}, "expected NAME, NAME:CALLS or"),
        ({"sampler": "ddpm"}, "draws noise on the way"),
        ({"eta": 0.5}, "draws noise on the way"),
        ({"sampler": "magic"}, "got the sampler 'magic'"),
        ({"guidance": ("magic",)}, "got the guidance 'magic'"),
        ({"steps": 0}, "--steps 0, expected a whole number"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all"),
    ],
)
def test_refused(folder: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        solver_sweep(small(folder, tmp_path / "out", no_plot=True, **changes))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_script(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    flags = "--solver unipc@log-snr --calls 3 --captions 2 --steps 4 --batch-size 2 --no-plot"
    command = ["solver_sweep.py", "--model", str(folder / "model"), "--out", str(tmp_path), *flags.split()]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / "scripts/solver_sweep.py"), run_name="__main__")
    assert end.value.code == 0, capsys.readouterr().err
    assert "unipc@log-snr, 3 calls: " in capsys.readouterr().out
