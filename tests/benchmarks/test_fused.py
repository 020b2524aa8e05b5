"""benchmarks/fused.py at tiny size: its comparisons, and its message where there is nothing to compare."""

import re
from pathlib import Path

import pytest
from torch import nn

from benchmarks import fused as benchmark
from glide.networks.cpu import fused, prepacked
from glide.utils.errors import InputError


@pytest.mark.slow
def test_both_are_measured(
    text_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if fused.library() is None:
        pytest.skip("the C of glide/networks/cpu/fused.py was not compiled where this was installed")
    monkeypatch.setattr(benchmark, "SHAPES", [(2, 64, 4)])
    monkeypatch.setattr(benchmark, "SEQUENCES", [(2, 1, 16, 4, 0), (2, 1, 16, 4, 3)])
    monkeypatch.setattr(benchmark, "CONVOLUTIONS", [(1, 16, 4)])
    argv = ["fused.py", "--model", str(text_folder), "--batch-size", "2", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", argv)
    benchmark.main()
    found = re.findall(r"^(\w+).* (\d+) us +(\d+) us +([\d.]+) times$", capsys.readouterr().out, re.MULTILINE)
    packed = ["sample"] * prepacked.packable(nn.Conv2d(1, 1, 1))
    assert [row[0] for row in found] == [*3 * ["sample", "train"], *packed, "10", "10"]
    for _, plain, ours, ratio in found:
        assert float(ratio) == pytest.approx(int(plain) / int(ours), rel=0.1, abs=0.006)


def test_nothing_to_compare_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "library", lambda: None)
    monkeypatch.setattr("sys.argv", ["fused.py"])
    with pytest.raises(InputError, match="expected it compiled: install GCC 12"):
        benchmark.main()


def test_no_repeats_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["fused.py", "--repeats", "0"])
    with pytest.raises(InputError, match="--repeats 0: expected at least 1"):
        benchmark.main()
