"""docs/solvers.md does what it says: its commands parse, its code runs, its tables are complete."""

import re
import shlex

import pytest

from glide.diffusion.samplers.registry import SAMPLERS, SPACINGS
from glide.networks.model import Model
from glide.utils import cli as cli
from support.sample_script import ROOT
from toolkit import Pipeline
from toolkit.commands.sample_flags import parse
from toolkit.evaluation.sampler_sweep import Line, SolverSweep

PAGE = (ROOT / "docs/solvers.md").read_text("utf-8")


def test_commands_parse() -> None:
    found = re.findall(r"^python scripts/(\w+\.py) (.*)$", PAGE, re.MULTILINE)
    assert {name for name, _ in found} == {"sample.py", "solver_sweep.py"}
    for name, flags in found:
        if name == "sample.py":
            args, _ = parse(shlex.split(flags), None)
            assert {args.sampler, args.second.upsample_sampler} <= set(SAMPLERS)
            assert args.spacing in {None, *SPACINGS}
        else:
            for text in cli.parse(SolverSweep, None, shlex.split(flags)).solver:
                Line.parse(text)


def test_every_solver_and_spacing_is_in_the_tables() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE, re.MULTILINE)
    assert set(rows) >= {*SAMPLERS, *SPACINGS}


def test_the_code_runs(text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    monkeypatch.setattr(Pipeline, "from_pretrained", lambda name: Pipeline(text_model, call_size=1))
    space: dict[str, object] = {}
    exec(compile(block, "docs/solvers.md", "exec"), space)
    assert space["result"].recipes[0]["spacing"] == "log-snr"
