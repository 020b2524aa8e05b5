"""docs/solvers.md does what it says: its commands parse, its code runs, its tables are complete."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from glide.diffusion.samplers.registry import OWN, SAMPLERS, SPACINGS
from glide.networks.model import Model
from glide.utils import cli as cli
from glide.utils.entry_points import plug_ins
from support.sample_script import ROOT
from toolkit import Pipeline
from toolkit.commands.sample_flags import parse
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.evaluation.sampler_sweep import Line

PAGE = (ROOT / "docs/solvers.md").read_text("utf-8")


def test_commands_parse() -> None:
    found = re.findall(r"^python scripts/(\w+\.py) (.*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in found} == {"sample.py", "solver_sweep.py"}
    for name, flags in found:
        if name == "sample.py":
            args, _ = parse(shlex.split(flags), None)
            assert {args.sampler, args.second.upsample_sampler} <= {OWN, *SAMPLERS}
            assert args.spacing in {None, *SPACINGS}
        else:
            for text in cli.parse(SolverSweep, None, shlex.split(flags)).solver:
                Line.parse(text)


def test_every_solver_and_spacing_is_in_the_tables() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)
    assert set(rows) >= {*SAMPLERS, *SPACINGS}


def test_the_table_has_the_orders_of_the_registry() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (?:up to )?([-\d]) \|", PAGE, re.MULTILINE)
    assert dict(rows) == {name: str(sampler.order or "-") for name, sampler in SAMPLERS.items()}


def test_the_sampler_of_a_package(text_model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, block = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (toml,) = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    group, name, where = re.findall(r'entry-points."(.+)"\]\n(\w+) = "(.+)"', toml)[0]
    info = tmp_path / "bounded-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bounded\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
    (tmp_path / f"{where.partition(':')[0]}.py").write_text(block)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_package", raising=False)
    plug_ins.cache_clear()
    try:
        pipe = Pipeline(text_model, call_size=1)
        result = pipe("a red ring", sampler=name, num_inference_steps=4, seed=0)
        assert result.recipes[0]["sampler"] == "bounded" and result.tensors.abs().max() <= 1
    finally:
        plug_ins.cache_clear()


def test_the_code_runs(text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    block, _ = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: Pipeline(text_model, call_size=1))
    space: dict[str, object] = {}
    exec(compile(block, "docs/solvers.md", "exec"), space)
    assert space["result"].recipes[0]["spacing"] == "log-snr"
