"""Training on pictures of other shapes: one size, aspect buckets, and what does not fit."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.load import load_model
from glide.networks.model import Model
from glide.training.base_data import check_shapes, sized
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from glide.utils.images import load_image
from support.training_settings import settings
from toolkit.pipelines.training_preview import batch_grid, sample_grid

SHAPES = {"square": (20, 20, 8), "wide": (48, 32, 8), "high": (30, 45, 6)}  # width, height, number


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for kind, (width, height, count) in SHAPES.items():
        for i in range(count):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"{kind}-{i}.png")
    return place


def shaped(out: Path, data: Path, **changes: Any) -> TrainBase:
    return settings(out, data=str(data), unconditional=True, validation_batches=0, **changes)


def weights(model: Model) -> list[torch.Tensor]:
    return [weight for _, weight in sorted(model.state_dict().items())]


def test_a_run_of_buckets_is_repeated_exactly(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train_base(shaped(tmp_path / "whole", folder, buckets=True))
    said = capsys.readouterr().out
    assert "3 aspect buckets, width x height:" in said and "of a picture: " in said
    assert whole.config.sizes == ("16x16", "20x12", "12x20")
    assert load_model(tmp_path / "whole").config.sizes == whole.config.sizes
    again = train_base(shaped(tmp_path / "again", folder, buckets=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(again), strict=True))


def test_stopped_and_gone_on_is_the_run_that_was_not(folder: Path, tmp_path: Path) -> None:
    def steady(name: str, steps: int, **changes: Any) -> TrainBase:
        args = shaped(tmp_path / name, folder, buckets=True, train={"steps": steps}, **changes)
        optim = dataclasses.replace(args.train.optim, cooldown=0.0)
        return dataclasses.replace(args, train=dataclasses.replace(args.train, optim=optim))

    whole = train_base(steady("whole", 6))
    train_base(steady("parts", 3))
    resumed = train_base(steady("parts", 6, resume=True))
    assert all(torch.equal(a, b) for a, b in zip(weights(whole), weights(resumed), strict=True))


def test_one_size_is_in_the_folder(folder: Path, tmp_path: Path) -> None:
    model = train_base(shaped(tmp_path / "wide", folder, size="24x16", train={"steps": 1}))
    assert model.config.sizes == ("24x16",) and model.config.unet.image_size == 16
    square = train_base(shaped(tmp_path / "square", folder, size="24", train={"steps": 1}))
    assert square.config.sizes == () and square.config.unet.image_size == 24
    # a model that begins with its weights has the size of its own flags
    new = train_base(
        dataclasses.replace(
            shaped(tmp_path / "new", folder, train={"steps": 1}), preset=None, init=str(tmp_path / "wide")
        )
    )
    assert new.config.sizes == ()


def test_progress_pictures_have_the_shape_of_the_model(folder: Path, tmp_path: Path) -> None:
    model = train_base(shaped(tmp_path / "wide", folder, size="24x16", inpaint=True, train={"steps": 1}))
    assert sample_grid(model, tmp_path / "grid.png", ()) is not None
    assert load_image(tmp_path / "grid.png").shape == (2 * 18 + 2, 8 * 26 + 2, 3)
    batch = {"image": torch.zeros(2, 3, 12, 20, dtype=torch.uint8), "inpaint_mask": torch.ones(2, 1, 12, 20)}
    batch["inpaint_mask"][..., :5] = 0
    assert batch_grid(model, tmp_path / "fill.png", batch) is not None  # of a batch of another bucket


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"size": "24x16", "buckets": True}, "got --size and --buckets, expected one of them"),
        ({"size": "23x16"}, "got --size 23x16, expected multiples of 4, .*: write 24x16"),
        ({"size": "wide"}, "got --size 'wide', expected WIDTHxHEIGHT in pixels"),
        ({"data": "shapes", "buckets": True}, "got --size or --buckets for shapes"),
        ({"data": "shapes", "size": "24x16"}, "got --size or --buckets for shapes"),
    ],
)
def test_what_does_not_fit(tmp_path: Path, folder: Path, changes: dict[str, Any], said: str) -> None:
    args = dataclasses.replace(shaped(tmp_path / "run", folder), **changes)
    with pytest.raises(InputError, match=said):
        train_base(args)
    assert not (tmp_path / "run/config.json").exists()


def test_upsamplers_take_neither(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(InputError, match="for an upsampler, which learns from square crops"):
        check_shapes(shaped(tmp_path, folder, buckets=True), draws=False)


def test_a_square_size_of_latents_is_divided(tmp_path: Path, folder: Path) -> None:
    from support.latent import latent_model

    config = latent_model().config
    assert sized(config, shaped(tmp_path, folder, size="48")).unet.image_size == 12
    assert sized(config, shaped(tmp_path, folder, size="48x32")).sizes == ("48x32",)
    with pytest.raises(InputError, match="expected multiples of 8"):
        sized(config, shaped(tmp_path, folder, size="44x32"))
