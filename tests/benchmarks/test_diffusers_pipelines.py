"""The benchmark of diffusers' pipelines, on small networks."""

import re
from pathlib import Path

import pytest

from benchmarks import diffusers_pipelines
from benchmarks.measure import diffusers_cases
from support.diffusers_pipelines import QUIET

pytestmark = QUIET


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["DDIMPipeline", "StableDiffusionInpaintPipeline"])
def test_a_step_is_timed_and_its_calls_are_counted(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"block_out_channels": (32, 32), "layers_per_block": 1}.items():
        monkeypatch.setitem(diffusers_cases.UNET, name, value)
    line = diffusers_pipelines.measure(kind, tmp_path, steps=3, repeats=1)
    found = re.fullmatch(
        rf"{kind}: ([\d.]+) ms a step, ([\d.]+) of diffusers' own \(\2 to \2\), 1 and 1 calls a step", line
    )
    assert found and float(found[1]) > 0 and 0.05 < float(found[2]) < 20
