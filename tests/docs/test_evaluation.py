"""docs/evaluation.md does what it says: its code and its commands run, and its tables name what there is."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import evaluate_images as script
import numpy as np
import pytest
import torch
from PIL import Image

from glide.utils.entry_points import plug_ins
from support.models import CAPTIONS
from support.paths import ROOT
from support.sample_script import Capture
from support.scripts import call
from toolkit.commands import evaluate_images as command
from toolkit.evaluation.features import BUILT_IN, GROUP, Features, features_named

PAGE = (ROOT / "docs/evaluation.md").read_text("utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_its_table_has_all_built_in_features() -> None:
    table = re.findall(
        r"^\| `([\w:-]+)` \|", PAGE.partition("## Features")[2].partition("## Figures")[0], re.M
    )
    assert sorted(table) == sorted(["--features", *BUILT_IN])


def test_its_code_runs(capsys: Capture) -> None:
    code = blocks("python")[-1]
    exec(compile(code, "docs/evaluation.md", "exec"), {})
    distance, precision, recall = map(float, re.findall(r"-?\d+\.\d+", capsys.readouterr().out))
    assert 3 < distance < 6 and 0 < precision <= 1 and 0 < recall <= 1


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's features as a package that pip installed."""
    (block,) = blocks("toml")
    ((group, name, where),) = re.findall(r'entry-points\."(.+)"\]\n(\w+) = "(.+)"', block)
    assert group == GROUP
    (tmp_path / "my_package.py").write_text(blocks("python")[0])
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {where}\n")
    monkeypatch.syspath_prepend(tmp_path)
    plug_ins.cache_clear()
    yield
    sys.modules.pop("my_package", None)
    plug_ins.cache_clear()


def test_features_of_ones_own_are_found(installed: None) -> None:
    features = features_named("colours", torch.device("cpu"))
    assert (features.size, features.width, features.kind) == (32, 48, "colours")


@pytest.mark.slow
@pytest.mark.filterwarnings("always:.*pictures:UserWarning")
def test_its_commands_run(
    installed: None, text_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With small features in place of the large ones."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder in ("outputs", "photos"):
        (tmp_path / folder).mkdir()
        for i in range(30):
            Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(f"{folder}/{i:02}.png")
            Path(f"{folder}/{i:02}.txt").write_text(CAPTIONS[i % len(CAPTIONS)])
    np.savez("batch.npz", rng.integers(0, 256, (8, 9, 9, 3), dtype=np.uint8))

    def small(name: str, device: torch.device) -> Features:
        return features_named("colours", device)

    monkeypatch.setattr(command, "features_named", small)
    lines = re.findall(r"^python scripts/evaluate_images.py (.*)$", "\n".join(blocks("")), re.MULTILINE)
    assert len(lines) == 3
    for number, line in enumerate(lines):
        words = shlex.split(line.replace('"shards/{0000..0009}.tar"', "photos/"))
        words = [str(text_folder) if word == "runs/photos" else word for word in words]
        words = ["12" if word == "500" else word for word in words]
        small_flags = (
            "--steps",
            "2",
            "--resamples",
            "10",
            "--shown",
            "1",
            "--device",
            "cpu",
            "--out",
            f"out{number}",
        )
        assert call(script, *words, *small_flags) == 0, line
        assert {"evaluation.json", "evaluation.html"} <= {
            path.name for path in Path(f"out{number}").iterdir()
        }
