"""The square that is painted, and the way back: nothing outside the mask ever changes."""

import tracemalloc

import numpy as np
import pytest
import torch

from toolkit.pipelines.inpaint_region import (
    Region,
    _enlarged,
    default_feather,
    pasted,
    region_around,
    shown,
    softened,
)

RNG = np.random.default_rng(0)


def box(height: int, width: int, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
    unknown = np.zeros((height, width), bool)
    unknown[y0:y1, x0:x1] = True
    return unknown


@pytest.mark.parametrize(
    ("unknown", "least", "context", "expected"),
    [
        (
            box(100, 200, 40, 60, 90, 110),
            8,
            3.0,
            Region(20, 70, 60),
        ),  # three times as long, around the middle
        (box(100, 200, 40, 60, 90, 110), 80, 3.0, Region(10, 60, 80)),  # not less than the model's pixels
        (box(100, 200, 0, 20, 180, 200), 8, 3.0, Region(0, 140, 60)),  # moved into the picture
        (box(100, 200, 0, 20, 0, 20), 8, float("inf"), Region(0, 0, 100)),  # all that fits
        (
            box(100, 200, 10, 30, 20, 170),
            8,
            1.0,
            Region(-25, 20, 150),
        ),  # longer than the short side: beyond it
        (box(5, 5, 1, 2, 1, 2), 64, 3.0, Region(0, 0, 5)),  # a picture smaller than the model's
        (box(1, 1, 0, 1, 0, 1), 8, 3.0, Region(0, 0, 1)),
    ],
)
def test_the_square_around_a_mask(unknown: np.ndarray, least: int, context: float, expected: Region) -> None:
    region = region_around(unknown, least, context)
    assert region == expected
    assert region.cut(unknown, False).sum() == unknown.sum()  # all of the mask is in it


def test_what_lies_beyond_the_picture_is_filled() -> None:
    array = np.arange(12).reshape(3, 4)
    assert Region(-1, 2, 4).cut(array, -1).tolist() == [
        [-1, -1, -1, -1],
        [2, 3, -1, -1],
        [6, 7, -1, -1],
        [10, 11, -1, -1],
    ]


@pytest.mark.parametrize(("side", "size"), [(64, 64), (128, 64), (100, 64), (40, 64), (257, 16)])
def test_nothing_of_the_masked_pixels_reaches_the_model(side: int, size: int) -> None:
    unknown = RNG.random((side, side)) < 0.02
    unknown[side // 4 : side // 2, side // 3 :] = True
    rgb = RNG.integers(0, 256, (side, side, 3), dtype=np.uint8)
    other = np.where(unknown[..., None], 255 - rgb, rgb)
    region = Region(0, 0, side)
    image, known = shown(region, rgb, unknown, size)
    image_2, known_2 = shown(region, other, unknown, size)
    assert image.shape == (3, size, size) and known.shape == (1, size, size)
    assert torch.equal(image, image_2) and torch.equal(known, known_2)
    assert 0 < known.mean() < 1 and bool((image[:, known[0] == 0] == 0).all())
    assert image.abs().max() <= 1
    if side == size:
        assert torch.equal(known[0] == 0, torch.from_numpy(unknown))
        x = torch.from_numpy(rgb).permute(2, 0, 1) / 127.5 - 1
        assert torch.equal(image, x * known)


def test_what_lies_beyond_the_picture_is_unknown() -> None:
    unknown = box(20, 60, 5, 15, 0, 60)
    region = region_around(unknown, 8, 1.0)
    _, known = shown(region, np.zeros((20, 60, 3), np.uint8), unknown, 60)
    assert region == Region(-20, 0, 60) and known.sum() == 10 * 60
    assert bool((known[:, :20] == 0).all()) and bool((known[:, 40:] == 0).all())


@pytest.mark.parametrize("feather", [0, 1, 3, 8])
@pytest.mark.parametrize("shape", [(50, 90), (64, 64), (9, 130)])
def test_outside_the_mask_nothing_changes(shape: tuple[int, int], feather: int) -> None:
    rgb = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    kept = rgb.copy()
    for seed in range(4):
        rng = np.random.default_rng(seed)
        y, x = rng.integers(shape[0] - 4), rng.integers(shape[1] - 4)
        unknown = box(*shape, y, y + 1 + rng.integers(shape[0]), x, x + 1 + rng.integers(shape[1]))
        if unknown.all():
            unknown[0, 0] = False
        region = region_around(unknown, 16, 2.0)
        new = pasted(rgb, unknown, region, torch.rand(3, 16, 16) * 2 - 1, feather)
        assert np.array_equal(new[~unknown], rgb[~unknown]) and new.dtype == np.uint8
        assert (new[unknown] != rgb[unknown]).any()
    assert np.array_equal(rgb, kept)  # nor is what came in


def test_at_the_models_own_size_pixels_are_pasted_as_they_are() -> None:
    unknown = box(16, 16, 4, 12, 0, 9)
    region = region_around(unknown, 16, 3.0)
    painted = torch.randint(0, 256, (3, 16, 16))
    new = pasted(np.zeros((16, 16, 3), np.uint8), unknown, region, painted / 127.5 - 1, 0)
    assert default_feather(region, 16) == 0 and default_feather(Region(0, 0, 256), 64) == 4
    assert np.array_equal(new[unknown], painted.permute(1, 2, 0).numpy()[unknown])


def test_the_border_goes_over_into_the_colours_around_and_not_into_what_was_there() -> None:
    """White around, a black thing under the mask, grey painted: along the border white turns to grey."""
    rgb = np.full((40, 40, 3), 255, np.uint8)
    unknown = box(40, 40, 8, 32, 8, 32)
    rgb[unknown] = 0
    new = pasted(rgb, unknown, Region(0, 0, 40), torch.zeros(3, 40, 40), 6)[20, :, 0].astype(int)
    assert (new[:8] == 255).all() and (new[32:] == 255).all() and (new[16:24] == 128).all()
    assert (np.diff(new[7:16]) <= 0).all() and 200 < new[8] < 255  # falls steadily from white
    assert new.min() == 128  # nowhere is anything of the black


def test_blending_leaves_thin_masks_their_strength_and_knows_the_pictures_edge() -> None:
    thin = box(60, 60, 30, 33, 5, 55)
    assert softened(thin, 20)[thin].max() == 1
    left = box(40, 40, 10, 30, 0, 20)
    share = softened(left, 4)
    assert share[20, 0] == 1 and share[20, 19] < 1  # the picture's edge is no border
    assert (share[~left] == 0).all() and (share[left] > 0).all()


# --- long strips ----------------------------------------------------------------------------------------------------


def whole_square(
    region: Region, rgb: np.ndarray, unknown: np.ndarray, size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`shown` by the square in one piece."""
    missing = torch.from_numpy(region.cut(unknown, True)).float()[None, None]
    image = torch.from_numpy(region.cut(rgb, 0)).permute(2, 0, 1).contiguous().float()[None] / 127.5 - 1
    known = (torch.nn.functional.adaptive_avg_pool2d(missing, size) == 0).float()
    return (torch.nn.functional.adaptive_avg_pool2d(image * (1 - missing), size) * known)[0], known[0]


@pytest.mark.parametrize(
    ("height", "width", "side"), [(90, 70, 70), (40, 300, 300), (300, 40, 300), (30, 41, 41), (200, 150, 127)]
)
def test_row_by_row_it_is_the_square_in_one_piece(height: int, width: int, side: int) -> None:
    rgb = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    unknown = box(height, width, height // 2, height // 2 + 9, 3, width - 3)
    region = Region((height - side) // 2, (width - side) // 2, side)
    for ours, theirs in zip(
        shown(region, rgb, unknown, 16), whole_square(region, rgb, unknown, 16), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("height", "width"), [(40, 300), (300, 40), (131, 77)])
def test_a_part_of_the_enlargement_is_that_part(height: int, width: int) -> None:
    side = max(height, width)
    here = Region((height - side) // 2, (width - side) // 2, side).overlap(height, width)[1]
    small = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    whole = torch.nn.functional.interpolate(
        small, (side, side), mode="bicubic", align_corners=False, antialias=True
    )
    torch.testing.assert_close(_enlarged(small, side, here), whole[..., here[0], here[1]], rtol=0, atol=1e-5)


def test_memory_grows_with_the_pixels() -> None:
    """Of a strip whose square would have hundreds of times as many, none is made that is larger than the strip."""
    rgb = RNG.integers(0, 256, (8, 20_000, 3), dtype=np.uint8)
    unknown = box(8, 20_000, 2, 6, 100, 19_900)
    region = region_around(unknown, 64, 3.0)
    assert region.side**2 > 200 * unknown.size
    tracemalloc.start()
    with torch.profiler.profile(profile_memory=True) as profile:
        image, known = shown(region, rgb, unknown, 64)
        result = pasted(rgb, unknown, region, torch.zeros(3, 64, 64), default_feather(region, 64))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    largest = max((event.cpu_memory_usage for event in profile.events()), default=0)
    assert max(most, largest) < 200 * unknown.size
    assert image.shape == (3, 64, 64) and not known.any()
    assert np.array_equal(result[~unknown], rgb[~unknown]) and not np.array_equal(
        result[unknown], rgb[unknown]
    )
