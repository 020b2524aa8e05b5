"""train_base.py --evaluate-every: a line and a point every so many steps, resumed runs, settings that do not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import train_base as script  # scripts/train_base.py

from support.sample_script import Capture
from support.scripts import call
from toolkit.commands import train_base as command
from toolkit.evaluation.features import Features

TINY = ("--data", "shapes:one", "--preset", "tiny", "--batch-size", 4, "--log-every", 1, "--device", "cpu")
MEASURED = ("--evaluate-pictures", 8, "--evaluate-features", "colours")


@pytest.fixture(autouse=True)
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that take no time: the mean colours of quarters."""

    def named(name: str, device: torch.device) -> Features:
        def network(images: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

        return Features(name, name, 8, 12, "colours", network, device)

    monkeypatch.setattr(command, "features_named", named)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "evaluation.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_is_measured_and_goes_on(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    flags = (*TINY, *MEASURED, "--evaluate-every", 2, "--sample-every", 1, "--save-every", 1, "--out", out)
    assert call(script, *flags, "--steps", 3) == 0
    assert "step 2: kernel distance" in capsys.readouterr().out
    first = lines(out)
    assert [line["step"] for line in first] == [2, 3]  # and the last one
    for line in first:
        assert line["kernel_distance_low"] < line["kernel_distance"] < line["kernel_distance_high"]
        assert 0 <= line["precision"] <= 1 and 0 <= line["coverage"] <= 1
    assert call(script, *flags, "--steps", 4, "--resume") == 0
    second = lines(out)
    assert second[:2] == first and [line["step"] for line in second] == [2, 3, 4]
    pytest.importorskip("matplotlib")
    assert (out / "evaluation.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--evaluate-every", 3, "--sample-every", 2), "expected a multiple of it"),
        (("--evaluate-every", 2, "--sample-every", 2, "--condition", "map:9"), "conditioned on pictures"),
        (("--evaluate-every", 2, "--sample-every", 2, "--evaluate-pictures", 1), "got --evaluate-pictures 1"),
    ],
)
def test_settings_that_do_not_fit(
    flags: tuple[object, ...], said: str, tmp_path: Path, capsys: Capture
) -> None:
    assert call(script, *TINY, "--out", tmp_path / "run", *flags) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "run").exists()
