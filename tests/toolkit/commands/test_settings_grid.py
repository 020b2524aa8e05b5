"""A grid over two settings: each cell is the picture of its values, with these on the edges."""

from pathlib import Path

import numpy as np
import pytest
import settings_grid as script
import torch
from PIL import Image

from glide.checkpoints.load import save_model
from glide.utils.cli import run
from glide.utils.contact_sheet import labelled_grid
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from support.conditions import conditioned_model
from support.models import CAPTIONS
from support.sample_script import Capture, refused
from toolkit.commands.settings_grid import settings_grid
from toolkit.commands.settings_grid_flags import Axis, SettingsGrid
from toolkit.pipelines.pipeline import Pipeline


@pytest.fixture
def model(tmp_path: Path) -> str:
    save_model(tmp_path / "model", conditioned_model((), null_condition=False))
    return str(tmp_path / "model")


def test_each_cell_is_drawn_with_its_values(model: str, tmp_path: Path) -> None:
    args = SettingsGrid(
        str(tmp_path / "grid.png"),
        "guidance=none|cfg:2|cfg:2+pag:1",
        "seed=3,4",
        prompt=CAPTIONS[0],
        model=model,
        steps=2,
        dtype="float32",
    )
    drawn = settings_grid(args)
    assert drawn.shape == (2, 3, 8, 8, 3)
    pipe = Pipeline.from_pretrained(model, dtype="float32")
    for row, seed in enumerate((3, 4)):
        for column, guidances in enumerate((["none"], ["cfg:2"], ["cfg:2", "pag:1"])):
            alone = pipe(CAPTIONS[0], seed=seed, num_inference_steps=2, guidances=guidances)
            assert (np.array(alone.images[0]) == drawn[row, column].numpy()).all()
    recipe = read_recipe(args.out)
    assert (recipe["x"], recipe["y"], recipe["prompt"]) == (args.x, args.y, CAPTIONS[0])


def test_the_labels_stand_on_the_edges() -> None:
    pictures = torch.zeros(2, 3, 96, 96, 3, dtype=torch.uint8)
    sheet = labelled_grid(pictures, ["scale 1", "scale 3", "scale 7"], ["seed 0", "seed 1"])
    black = (sheet == 0).all(-1)
    assert int(black.sum()) >= 6 * 96 * 96
    first = int(black.sum(1).gt(200).nonzero()[0])  # of the pictures
    left = int(black[first].nonzero()[0])
    assert (sheet[:first] < 128).any() and (sheet[first:, : left - 1] < 128).any()
    alone = labelled_grid(pictures[:1], ["", "", ""], [""])
    assert alone.shape[1] < sheet.shape[1] and not (alone[:4] < 255).any()


def test_axes() -> None:
    assert Axis.parse("prompt=a red, ring|a star", "--x").values == ("a red, ring", "a star")
    assert Axis.parse("deep-every=1,2", "--x") == Axis("deep_every", ("1", "2"), (1, 2))
    assert Axis.parse("guidance=cfg:3+pag", "--x").values == (("cfg:3", "pag"),)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--x", "scale=1,a"), "got --x scale 'a'"),
        (("--x", "steps=0"), "got --x steps 0"),
        (("--x", "speed=3"), "expected NAME=V1,V2"),
        (("--x", "scale"), "expected NAME=V1,V2"),
        (("--x", "scale=1,,2"), "empty value"),
        (("--x", "seed=1", "--y", "seed=2"), "seed on both axes"),
        (("--x", "seed=" + ",".join(map(str, range(401)))), "at most 400"),
        (("--x", "sampler=ddim,foo"), "foo"),
        (("--x", "guidance=cfg|foo"), "foo"),
    ],
)
def test_bad_input(flags: tuple[str, ...], said: str, model: str, tmp_path: Path, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as end:
        run(lambda: script.main([*flags, "--model", model, "--out", str(tmp_path / "grid.png")]))
    assert isinstance(end.value.code, int)
    refused(end.value.code, capsys, said)
    assert not (tmp_path / "grid.png").exists()


def test_nothing_is_overwritten(model: str, tmp_path: Path) -> None:
    Image.new("RGB", (2, 2)).save(tmp_path / "grid.png")
    with pytest.raises(InputError, match="exists already"):
        settings_grid(SettingsGrid(str(tmp_path / "grid.png"), "seed=1", model=model))
