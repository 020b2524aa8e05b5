"""Presets, losses and data sets of other packages, found by their entry points."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import train_base as train_script

from glide.checkpoints.load import load_model
from glide.data.datasets import open_data
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.losses import loss_plug_in
from glide.networks.presets import PRESETS, preset
from glide.utils.cli import run
from glide.utils.entry_points import plug_ins
from glide.utils.errors import InputError
from support.sample_script import Capture, refused

PACKAGE = """
from dataclasses import replace
import torch
from glide.networks.presets import PRESETS

small = replace(PRESETS["tiny"], text=None)

def wide():
    return replace(small, unet=replace(small.unet, channels=64))

no_config = "tiny"

def charbonnier(prediction, target):
    return ((prediction - target) ** 2 + 1e-6).sqrt()

def one_number(prediction, target):
    return (prediction - target).abs().mean()

class Noise:
    class_names = ()
    broken = {}

    def __init__(self, argument, image_size, *, seed, channels, split, **options):
        self.shape, self.level, self.seed = (channels, image_size, image_size), int(argument or 255), seed

    def check_batch(self, size):
        pass

    def batch(self, step, size, rows=None):
        generator = torch.Generator().manual_seed(self.seed + step)
        image = torch.randint(0, self.level + 1, (size, *self.shape), generator=generator, dtype=torch.uint8)
        image = image if rows is None else image[rows.start:rows.stop]
        return {"image": image, "caption": [""] * len(image)}

    def captions_for_tokenizer(self):
        return [""]

def nothing(argument, image_size, **options):
    return object()

def odd(argument):
    return object()
"""
POINTS = {
    "glide.presets": {
        "small": "lamps:small",
        "wide": "lamps:wide",
        "text": "lamps:no_config",
        "tiny": "lamps:wide",
        "broken": "nowhere:x",
    },
    "glide.losses": {
        "charbonnier": "lamps:charbonnier",
        "l1": "lamps:one_number",
        "one": "lamps:one_number",
        "broken": "lamps:none",
    },
    "glide.datasets": {
        "noise": "lamps:Noise",
        "shapes": "lamps:Noise",
        "nothing": "lamps:nothing",
        "odd": "lamps:odd",
        "broken": "nowhere:x",
    },
}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder as pip leaves it: a module, and the entry points of its distribution."""
    site = tmp_path / "site"
    info = site / "lamps-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "lamps.py").write_text(PACKAGE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: lamps\nVersion: 1.0\n")
    lines = [
        "".join([f"[{group}]\n", *(f"{name} = {where}\n" for name, where in names.items())])
        for group, names in POINTS.items()
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(site)
    plug_ins.cache_clear()
    yield
    plug_ins.cache_clear()
    loss_plug_in.cache_clear()


def call(*argv: object) -> int:
    quick = (
        "--steps",
        "2",
        "--batch-size",
        "2",
        "--dtype",
        "float32",
        "--sample-every",
        "9",
        "--log-every",
        "1",
    )
    with pytest.raises(SystemExit) as end:
        run(lambda: train_script.main([*map(str, argv), *quick, "--device", "cpu"]))
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.slow
def test_a_training_of_all_three(tmp_path: Path) -> None:
    flags = ("--preset", "wide", "--loss", "charbonnier", "--data", "noise:100", "--out", tmp_path / "run")
    assert call(*flags) == 0
    assert load_model(tmp_path / "run").config.unet.channels == 64
    log = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
    assert all(line["loss"] != line["mse"] and line["loss"] > 0 for line in log)
    assert call(*flags, "--resume") == 0


def test_presets() -> None:
    assert preset("small").unet == PRESETS["tiny"].unet and preset("wide").unet.channels == 64
    assert preset("tiny") is PRESETS["tiny"]  # a built-in name is not to be had
    with pytest.raises(
        InputError, match="the preset 'text' of lamps:no_config is a str, expected a ModelConfig"
    ):
        preset("text")
    with pytest.raises(InputError, match=r"expected one of tiny, .*adm-512, broken, small, text, wide"):
        preset("other")


def test_data_sets(tmp_path: Path) -> None:
    data = open_data("noise:7", 8, channels=1, seed=3)
    assert data.batch(0, 4)["image"].shape == (4, 1, 8, 8) and data.batch(0, 4)["image"].max() <= 7
    assert torch.equal(data.batch(1, 4, range(2, 4))["image"], data.batch(1, 4)["image"][2:])
    assert type(open_data("shapes:one", 16)).__name__ == "GeneratedData"
    with pytest.raises(
        InputError, match="the data set 'nothing' of lamps:nothing has no class_names or broken or"
    ):
        open_data("nothing", 8)
    with pytest.raises(
        InputError, match=r"the data set 'odd' of lamps:odd does not take \(argument, image_size"
    ):
        open_data("odd:3", 8)


def test_losses() -> None:
    assert LossConfig("charbonnier").kind == "charbonnier"
    with pytest.raises(
        InputError, match="got the loss 'l3', expected one of l2, l1, huber, broken, charbonnier, one"
    ):
        LossConfig("l3")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ("--preset", "broken"),
            "the preset 'broken' cannot be loaded from nowhere:x (No module named 'nowhere')",
        ),
        (
            ("--data", "broken:x"),
            "the data set 'broken' cannot be loaded from nowhere:x (No module named 'nowhere')",
        ),
        (("--loss", "broken"), "the loss 'broken' cannot be loaded from lamps:none"),
        (("--loss", "one"), "got errors of shape [] from the loss 'one', expected [2, 3, 16, 16]"),
        (("--loss", "l3"), "got the loss 'l3', expected one of l2, l1, huber, broken, charbonnier, one"),
    ],
)
def test_a_broken_one_is_one_sentence(
    flags: tuple[str, ...], said: str, tmp_path: Path, capsys: Capture
) -> None:
    chosen = flags if "--preset" in flags else ("--preset", "tiny", *flags)
    refused(call(*chosen, "--out", tmp_path / "run"), capsys, said)
