"""Sweeps that one's own pictures judge: the points of both commands, what they measure, and going on."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from glide.checkpoints.load import save_model
from glide.utils.errors import InputError
from support.conditions import conditioned_model
from support.models import CAPTIONS
from toolkit.commands import data_sweep as command
from toolkit.commands.guidance_sweep import sweep
from toolkit.commands.guidance_sweep_flags import Sweep
from toolkit.commands.solver_sweep import solver_sweep
from toolkit.commands.solver_sweep_flags import SolverSweep
from toolkit.evaluation.features import Features
from toolkit.evaluation.frechet_distance import Moments, frechet_distance

pytestmark = pytest.mark.filterwarnings("always:.*pictures:UserWarning", "ignore:the caption is longer")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model of captions, captioned pictures, and the features "means": those of the three channels."""
    monkeypatch.chdir(tmp_path)
    save_model("model", conditioned_model((), null_condition=False), {"data": "photos"})
    rng = np.random.default_rng(0)
    Path("photos").mkdir()
    for i in range(12):
        pixels = rng.integers(0, 256, (1, 1, 3)).repeat(8, 0).repeat(8, 1).astype(np.uint8)
        Image.fromarray(pixels).save(f"photos/{i}.png")
        Path(f"photos/{i}.txt").write_text(CAPTIONS[i % 2])

    def named(name: str, device: torch.device) -> Features:
        class Means(nn.Module):
            def forward(self, images: Tensor) -> Tensor:
                return images.mean((2, 3))

        return Features(name, name, 8, 3, "means", Means(), device)

    monkeypatch.setattr(command, "features_named", named)
    return tmp_path


def test_guidances_are_compared_with_own_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = Sweep(
        "model",
        steps=2,
        dtype="float32",
        data="photos",
        judge="means",
        captions=10,
        guidance=("none", "cfg"),
        scales=(2.0, 5.0),
        no_plot=True,
        out=Path("out"),
    )
    points = sweep(args)
    assert [point.name for point in points] == ["none", "cfg 2", "cfg 5"]
    assert [point.calls for point in points] == [2, 4, 4]
    rows = list(csv.DictReader(Path("out/sweep.csv").read_text().splitlines()))
    assert [(row["line"], row["scale"]) for row in rows] == [("none", ""), ("cfg", "2"), ("cfg", "5")]
    # the Fréchet distance of the pictures that were written
    drawn = [np.array(Image.open(path)) for path in sorted(Path("out/cfg-5").glob("*.png"))]
    real = [np.array(Image.open(path)) for path in Path("photos").glob("*.png")]
    means = [
        np.stack([one.mean((0, 1)) / 127.5 - 1 for one in pictures]).astype(np.float32)
        for pictures in (drawn, real)
    ]
    expected = frechet_distance(*(Moments.of([one], 3).gaussian() for one in means))
    assert len(drawn) == 10 and float(rows[2]["frechet_distance"]) == pytest.approx(expected, rel=1e-3)
    assert {"precision", "recall", "precision_low"} <= rows[0].keys() and Path("out/cfg-5.png").exists()
    assert "cfg 5: precision" in capsys.readouterr().out
    # what is there is not drawn again
    again = sweep(Sweep(**{**vars(args), "overwrite": True}))
    assert [point.figures for point in again] == [point.figures for point in points]
    assert all(np.isnan(point.calls) for point in again)


def test_samplers_are_compared_with_own_pictures(folder: Path) -> None:
    points = solver_sweep(
        SolverSweep(
            "model",
            dtype="float32",
            data="photos",
            judge="means",
            captions=4,
            real=6,
            solver=("ddim", "heun:3"),
            calls=(1, 2),
            no_plot=True,
            out=Path("out"),
        )
    )
    assert [(point.line, point.value) for point in points] == [("ddim", 1), ("ddim", 2), ("heun:3", 3)]
    assert sorted(path.name for path in Path("out").glob("*.png")) == [
        "ddim-1.png",
        "ddim-2.png",
        "heun-3-3.png",
    ]


def test_a_model_of_own_pictures_is_told_of_data(folder: Path) -> None:
    with pytest.raises(InputError, match="--data of the sweeps"):
        sweep(Sweep("model", no_plot=True, out=Path("out")))
    (folder / "photos/3.txt").unlink()
    with pytest.raises(InputError, match="caption"):
        sweep(Sweep("model", data="photos", judge="means", no_plot=True, out=Path("out")))


def test_the_plot(folder: Path) -> None:
    pytest.importorskip("matplotlib")
    sweep(
        Sweep(
            "model",
            steps=1,
            data="photos",
            judge="means",
            captions=5,
            guidance=("none", "cfg:2"),
            out=Path("out"),
        )
    )
    with Image.open("out/sweep.png") as image:
        assert image.width > 500
