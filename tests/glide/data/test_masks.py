"""Masks to learn inpainting with, and the training that uses them."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model
from glide.data.datasets import GeneratedData, open_data
from glide.data.masked import Masked
from glide.data.masks import missing_sides, random_masks, rectangles, stroke, strokes
from glide.networks.input_planes import plane_count
from glide.networks.model import Model
from glide.shapes.dataset import render
from glide.shapes.oracle import Oracle
from glide.training.config import TrainConfig
from glide.training.train_base import train_base
from glide.utils.contact_sheet import MARGIN, row_height
from glide.utils.errors import InputError
from glide.utils.images import load_image
from support.training_settings import settings
from toolkit.pipelines.mask_files import mask_of_file
from toolkit.pipelines.training_preview import fill_grid, sample_grid
from upsampler.train import train_upsampler
from upsampler.train_flags import TrainUpsampler


def test_a_mask_is_a_function_of_seed_step_and_index() -> None:
    masks = random_masks(1, 5, 6, (16, 24))
    assert masks.shape == (6, 1, 16, 24) and masks.dtype == torch.float32
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(masks[:3], random_masks(1, 5, 3, (16, 24)))  # not of the batch's size
    assert not torch.equal(masks, random_masks(1, 6, 6, (16, 24)))
    assert not torch.equal(masks, random_masks(2, 5, 6, (16, 24)))


def test_the_share_of_pictures_without_a_known_pixel() -> None:
    unknown = 1 - random_masks(0, 0, 400, (12, 12))
    assert bool((unknown.flatten(1).sum(1) > 0).all())  # something is always to be painted
    assert 0.2 < float((unknown.flatten(1).mean(1) == 1).float().mean()) < 0.32
    assert bool((random_masks(0, 0, 5, (8, 8), everything=1.0) == 0).all())
    for share in (-0.1, 1.1):
        with pytest.raises(InputError, match="the share"):
            random_masks(0, 0, 1, (8, 8), share)


@pytest.mark.parametrize("kind", [rectangles, strokes, missing_sides])
@pytest.mark.parametrize("size", [(32, 32), (20, 48), (1, 1)])
def test_every_kind_at_every_size(kind, size: tuple[int, int]) -> None:
    shares = []
    for seed in range(40):
        unknown = kind(np.random.default_rng(seed), size)
        assert unknown.shape == size and unknown.dtype == bool
        shares.append(unknown.mean())
    if size != (1, 1):
        assert 0.1 < np.mean(shares) < 0.7 and np.std(shares) > 0.05
    if kind is missing_sides and size != (1, 1):
        assert max(shares) < 1  # something is left to go on from


def test_a_stroke_is_all_that_is_near_its_line() -> None:
    points = np.array([[5.0, 5.0], [5.0, 15.0], [12.0, 15.0]])
    covered = stroke(points, 4.0, (20, 20))
    y, x = np.mgrid[:20, :20] + 0.5
    # the distance to each straight part, by many points on it
    on = np.concatenate([np.linspace(a, b, 200) for a, b in pairwise(points)])
    distance = np.hypot(y[..., None] - on[:, 0], x[..., None] - on[:, 1]).min(-1)
    assert (covered == (distance <= 2)).all()


def test_missing_sides_leave_one_rectangle() -> None:
    for seed in range(30):
        known = ~missing_sides(np.random.default_rng(seed), (20, 30))
        rows, columns = known.any(1), known.any(0)
        assert known.sum() == rows.sum() * columns.sum() > 0 and not known.all()


def test_batches_hold_masks_and_all_else_stays() -> None:
    data = open_data("shapes", 16, seed=3)
    masked = Masked(data, 3)
    batch, plain = masked.batch(7, 4), data.batch(7, 4)
    assert torch.equal(batch["image"], plain["image"]) and batch["caption"] == plain["caption"]
    assert torch.equal(batch["inpaint_mask"], random_masks(3, 7, 4, (16, 16)))
    assert masked.class_names == data.class_names and masked.broken == data.broken
    assert masked.captions_for_tokenizer() == data.captions_for_tokenizer()
    with pytest.raises(InputError, match="the share 2"):
        Masked(data, 0, 2.0)


def test_a_distractor_stays_and_the_caption_describes_the_masked_thing() -> None:
    data = open_data("shapes:one", 64, seed=1)
    assert isinstance(data, GeneratedData)
    masked, plain = Masked(data, 1, 0.0, beside=1.0), data.batch(3, 40)
    batch = masked.batch(3, 40)
    again = masked.batch(3, 12)
    assert torch.equal(batch["image"][:12], again["image"])
    assert torch.equal(batch["inpaint_mask"][:12], again["inpaint_mask"])
    assert batch["caption"] == plain["caption"]
    scenes = data.shapes.scenes(3, 40)
    empty = [replace(scene, things=()) for scene in scenes]
    background = torch.from_numpy(render(empty, 64)).permute(0, 3, 1, 2)
    changed = (batch["image"] != plain["image"]).any(1)  # [N,H,W] the other thing
    own = (plain["image"] != background).any(1)  # the first
    known = batch["inpaint_mask"][:, 0] == 1
    put = changed.flatten(1).any(1)
    assert put.float().mean() > 0.8  # there is mostly room
    assert not (changed & ~known)[put].any() and not (own & known)[put].any()
    oracle = Oracle()
    for i in torch.nonzero(put)[:10, 0].tolist():
        assert len(oracle.read(batch["image"][i].permute(1, 2, 0).numpy()).things) == 2
    assert torch.equal(Masked(data, 1, 0.5).batch(3, 4)["image"], plain["image"][:4])
    for share in (-0.1, 1.5):
        with pytest.raises(InputError, match="scenes with a thing beside, expected 0 to 1"):
            Masked(data, 0, 0.0, share)


# --- training -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_fine_tune_begins_as_the_model_was_and_resumes_exactly(tmp_path: Path) -> None:
    train_base(settings(tmp_path / "base", train={"steps": 2}))
    base = load_model(tmp_path / "base")
    short = {"steps": 4, "save_every": 2, "sample_every": 2}

    def fine(name: str, **changes) -> Model:
        return train_base(
            settings(tmp_path / name, init=str(tmp_path / "base"), inpaint=True, train=short, **changes),
            sample_grid,
            fill=fill_grid,
        )

    model = fine("whole")
    assert model.config.inpaint and plane_count(model.config) == 4
    assert model.unet.stem.weight.shape[1] == base.unet.stem.weight.shape[1] // 3 * 7
    # picture, masked, filled in, drawn from nothing: of four examples
    sheet = load_image(tmp_path / "whole/samples/0000002.png")
    assert sheet.shape == (4 * row_height(96), 4 * (96 + 2 * MARGIN), 3)

    fresh = Model(model.config, model.tokenizer)
    assert init_from(fresh, base) == []
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 500])
    words = base.caption_batch(["a red circle", ""])
    planes = {"inpaint_image": torch.randn(2, 3, 16, 16), "inpaint_mask": torch.ones(2, 1, 16, 16)}
    with torch.no_grad():
        torch.testing.assert_close(fresh.eval()(x, t, {**words, **planes}), base.eval()(x, t, words))

    class Stop(Exception):
        pass

    def stop(model: Model, path: Path, batch: object) -> None:
        raise Stop

    with pytest.raises(Stop):
        train_base(
            settings(
                tmp_path / "cut",
                init=str(tmp_path / "base"),
                inpaint=True,
                train={**short, "save_every": 1, "sample_every": 3},
            ),
            fill=stop,
        )
    train_base(settings(tmp_path / "cut", train=short, resume=True))  # the folder knows that it inpaints
    a, b = load_model(tmp_path / "whole").state_dict(), load_model(tmp_path / "cut").state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.slow
def test_upsamplers_learn_from_the_same_masks(tmp_path: Path) -> None:
    train = TrainConfig(steps=2, batch_size=2, dtype="float32", save_every=2, sample_every=100)
    args = TrainUpsampler(tmp_path / "up", preset="tiny-upsampler", inpaint=True, train=train)
    config = train_upsampler(args).config
    assert config.inpaint and config.low_res and plane_count(config) == 7
    plain = TrainUpsampler(tmp_path / "plain", preset="tiny-upsampler", train=train)
    train_upsampler(plain)
    fine = TrainUpsampler(tmp_path / "fine", init=str(tmp_path / "plain"), inpaint=True, train=train)
    assert plane_count(train_upsampler(fine).config) == 7


def test_an_inpainting_model_continues_to_inpaint_where_it_is_asked_to(tmp_path: Path) -> None:
    train_base(settings(tmp_path / "a", inpaint=True, all_unknown=0.0, train={"steps": 1}))
    train_base(
        settings(tmp_path / "b", init=str(tmp_path / "a"), inpaint=True, all_unknown=0.0, train={"steps": 1})
    )
    assert load_model(tmp_path / "b").config.inpaint
    train_base(settings(tmp_path / "d", init=str(tmp_path / "a"), train={"steps": 1}))
    assert not load_model(tmp_path / "d").config.inpaint
    with pytest.raises(InputError, match=r"--all-unknown 1\.5, expected a finite number from 0 to 1"):
        train_base(settings(tmp_path / "c", inpaint=True, all_unknown=1.5))
    (tmp_path / "data").mkdir()
    for i in range(4):
        Image.new("RGB", (16, 16)).save(tmp_path / "data" / f"{i}.png")
        (tmp_path / "data" / f"{i}.txt").write_text(f"shade {i}")
    with pytest.raises(InputError, match="--beside or --all-unknown without --inpaint"):
        train_base(settings(tmp_path / "c", beside=0.5))
    with pytest.raises(InputError, match="for other data than whole built-in scenes"):
        train_base(settings(tmp_path / "c", inpaint=True, beside=0.5, data=str(tmp_path / "data")))
    assert not (tmp_path / "c").exists()


def test_a_mask_of_zeros_and_ones_is_named(tmp_path: Path) -> None:
    values = np.zeros((6, 8), np.uint8)
    values[2:, 3:] = 1
    Image.fromarray(values).save(tmp_path / "m.png")
    with pytest.raises(InputError, match="its values go from 0 to 1, expected white, 255"):
        mask_of_file(str(tmp_path / "m.png"), (8, 6))
    Image.fromarray(255 * values).save(tmp_path / "m.png")
    assert np.array_equal(mask_of_file(str(tmp_path / "m.png"), (8, 6)), values == 1)
