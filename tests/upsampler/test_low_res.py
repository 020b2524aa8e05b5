"""Low-resolution pictures for training: what they are made of, exactly, and that a crop's planes are the whole's."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from glide.data.datasets import open_data
from glide.shapes.render import render
from glide.utils.errors import InputError
from glide.utils.images import from_uint8, to_uint8
from upsampler.crops import LowResCrops
from upsampler.low_res import add_noise, compress, degrade, enlarged_crop, reduce_picture
from upsampler.low_res_config import LowRes

PLAIN = LowRes(reduce=("area",), noise=(0.0, 0.0))
SIZE, CROP, SCALE = 32, 16, 4


def noise_picture(side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def crops(settings: LowRes = PLAIN, crop: int = CROP, seed: int = 3, data: str = "shapes") -> LowResCrops:
    return LowResCrops(open_data(data, SIZE, seed=seed), settings, SIZE, crop, SCALE, seed)


def test_area_is_the_mean_of_each_block_rounded():
    picture = noise_picture(16)
    means = picture.reshape(4, 4, 4, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduce_picture(picture, 4, "area") - means).max() <= 0.5
    flat = np.full((16, 16, 3), 77, np.uint8)
    for method in ("area", "bicubic", "lanczos"):
        assert np.array_equal(reduce_picture(flat, 4, method), flat[:4, :4])


def test_noise_keeps_the_variance_and_has_its_level():
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 3, 64, 64, generator=generator)
    for level in (0.0, 0.3, 0.9):
        z = add_noise(x, level, noise)
        assert z.var().item() == pytest.approx(1.0, rel=0.03)
        assert (z * noise).mean().item() == pytest.approx(level, abs=0.02)
    assert torch.equal(add_noise(x, 0.0, noise), x)


def test_clean_pictures_are_those_of_sampling_time():
    picture = noise_picture(8)
    low_res, level = degrade(picture, dataclasses.replace(LowRes(), clean=1.0), np.random.default_rng(0))
    assert level == 0.0 and torch.equal(low_res, from_uint8(picture[None])[0])


def test_levels_are_spread_over_their_range_and_some_pictures_stay_clean():
    settings, picture = LowRes(noise=(0.1, 0.3), clean=0.25), noise_picture(8)
    levels = [degrade(picture, settings, np.random.default_rng(seed))[1] for seed in range(400)]
    told = [level for level in levels if level]
    assert 0.17 < 1 - len(told) / 400 < 0.33
    assert 0.1 <= min(told) < 0.12 and 0.28 < max(told) <= 0.3 and 0.19 < np.mean(told) < 0.21


def test_blur_and_compression_are_pillows():
    picture = noise_picture(16)
    fuzzy = dataclasses.replace(PLAIN, blur=2.0, clean=0.0)
    rough = dataclasses.replace(PLAIN, jpeg=10, clean=0.0)
    clean = from_uint8(picture[None])[0]
    changed = {"blur": 0, "jpeg": 0}
    for seed in range(40):
        for name, settings in (("blur", fuzzy), ("jpeg", rough)):
            low_res, level = degrade(picture, settings, np.random.default_rng(seed))
            assert level == 0.0
            # whatever is done to it is rounded to 8 bits
            torch.testing.assert_close(from_uint8(to_uint8(low_res[None]))[0], low_res, rtol=0, atol=1e-6)
            changed[name] += not torch.equal(low_res, clean)
    assert all(10 < count < 30 for count in changed.values())  # half of the pictures
    assert (
        np.abs(compress(picture, 95).astype(int) - picture).mean()
        < np.abs(compress(picture, 5).astype(int) - picture).mean()
    )


def test_one_setting_changes_nothing_of_another():
    picture, rng = noise_picture(16), np.random.default_rng
    noisy = LowRes(clean=0.0)
    for seed in range(10):
        both = degrade(picture, dataclasses.replace(noisy, jpeg=95), rng(seed))
        assert both[1] == degrade(picture, noisy, rng(seed))[1]


@pytest.mark.parametrize("scale", [2, 4])
def test_a_crops_planes_are_the_wholes(scale):
    low_res = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(1))
    whole = F.interpolate(low_res[None], (8 * scale,) * 2, mode="bilinear", align_corners=False)[0]
    for top, left, side in [(0, 0, 8), (0, 0, 4), (4, 4, 4), (2, 3, 4), (0, 4, 4), (5, 1, 1)]:
        y, x, size = top * scale, left * scale, side * scale
        crop = enlarged_crop(low_res, scale, top, left, size)
        torch.testing.assert_close(crop, whole[:, y : y + size, x : x + size], rtol=0, atol=1e-6)


def test_batches_are_functions_of_seed_and_step():
    one, two = crops(LowRes(jpeg=30, blur=1.0)).batch(5, 6), crops(LowRes(jpeg=30, blur=1.0)).batch(5, 6)
    assert one["caption"] == two["caption"]
    assert all(torch.equal(one[key], two[key]) for key in ("image", "low_res", "low_res_level"))
    fewer = crops(LowRes(jpeg=30, blur=1.0)).batch(5, 2)
    assert torch.equal(fewer["low_res"], one["low_res"][:2])
    assert not torch.equal(crops(seed=4).batch(5, 6)["image"], one["image"])


def test_crops_lie_on_the_low_resolution_grid_and_fit_their_planes():
    data = crops()
    whole, batch = data.whole(0, 8), data.batch(0, 8)
    assert batch["image"].shape == batch["low_res"].shape == (8, 3, CROP, CROP)
    assert batch["low_res_level"].tolist() == [0.0] * 8
    planes = F.interpolate(from_uint8(whole.low_res), (SIZE, SIZE), mode="bilinear", align_corners=False)
    places = set()
    for i in range(8):
        found = [
            (y, x)
            for y in range(0, SIZE - CROP + 1, SCALE)
            for x in range(0, SIZE - CROP + 1, SCALE)
            if torch.equal(batch["image"][i].permute(1, 2, 0), whole.pixels[i, y : y + CROP, x : x + CROP])
            and torch.allclose(batch["low_res"][i], planes[i, :, y : y + CROP, x : x + CROP], atol=1e-6)
        ]
        assert found, i
        places |= set(found)
    assert len(places) > 3


def test_the_built_in_scenes_are_rendered_again_or_reduced():
    data = crops(dataclasses.replace(PLAIN, reduce=()))
    assert data.methods == ("rendered", "area")
    whole = data.whole(0, 4)
    scenes = data.data.shapes.scenes(0, 4)
    assert np.array_equal(whole.low_res, render(scenes, SIZE // SCALE))
    assert np.array_equal(whole.pixels, render(scenes, SIZE))
    assert list(whole.captions) == [scene.caption for scene in scenes]
    # over a whole picture, so that the planes tell how it was made
    batch = crops(dataclasses.replace(PLAIN, reduce=()), crop=SIZE).batch(0, 16)
    drawn = crops(dataclasses.replace(PLAIN, reduce=("rendered",)), crop=SIZE).batch(0, 16)
    same = [torch.equal(a, b) for a, b in zip(batch["low_res"], drawn["low_res"], strict=True)]
    assert 2 < sum(same) < 14


def test_folders(tmp_path: Path):
    for label in ("apple", "pear"):
        (tmp_path / label).mkdir()
        for i in range(2):
            Image.fromarray(noise_picture(40, i)).save(tmp_path / label / f"{i}.png")
    data = crops(LowRes(), data=str(tmp_path))
    assert data.methods == ("area",) and list(data.class_names) == ["apple", "pear"]
    batch = data.batch(0, 4)
    assert sorted(batch["y"].tolist()) == [0, 0, 1, 1] and data.captions_for_tokenizer() == []
    assert sorted(data.whole(0, 4).labels) == [0, 0, 1, 1] and not data.broken
    with pytest.raises(InputError, match="fewer than a batch"):
        data.check_batch(5)
    with pytest.raises(InputError, match="--reduce rendered for pictures of a folder"):
        crops(LowRes(reduce=("rendered",)), data=str(tmp_path))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"noise": (0.3, 0.1)}, "--noise 0.3 0.1, expected two rising"),
        ({"noise": (0.0, 1.0)}, "and below 1"),
        ({"blur": -1.0}, "--blur -1"),
        ({"blur": float("nan")}, "--blur nan"),
        ({"jpeg": 96}, "--jpeg 96, expected a whole number from 0 to 95"),
        ({"clean": 1.5}, "--clean 1.5"),
    ],
)
def test_settings_out_of_range(change, said):
    with pytest.raises(InputError, match=said):
        crops(dataclasses.replace(PLAIN, **change))


@pytest.mark.parametrize("crop", [0, 3, 18, 36])
def test_crops_that_do_not_fit(crop):
    with pytest.raises(InputError, match=f"crops of {crop} pixels of pictures of 32"):
        crops(crop=crop)
