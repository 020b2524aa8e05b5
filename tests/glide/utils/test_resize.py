"""Crops of pictures of any shape: which part, how large, and squares as they always were."""

import numpy as np
import pytest
from PIL import Image

from glide.utils.errors import InputError
from glide.utils.picture_size import check_multiple, difference, is_far, parse_size, recorded_size, size_text
from glide.utils.resize import crop_box, cropped_picture, square_picture


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("picture", [(480, 640), (640, 480), (33, 97), (64, 64), (100, 2000), (1, 7)])
@pytest.mark.parametrize("size", [(64, 64), (64, 96), (96, 64), (32, 128)])
def test_the_largest_part_of_a_shape_lies_in_the_middle(
    picture: tuple[int, int], size: tuple[int, int]
) -> None:
    left, top, right, bottom = crop_box(picture, size)
    assert left >= 0 and top >= 0 and right <= picture[1] and bottom <= picture[0]
    assert right - left == picture[1] or bottom - top == picture[0]
    assert abs(left - (picture[1] - right)) <= 1 and abs(top - (picture[0] - bottom)) <= 1
    # of the wanted shape, as far as whole pixels allow
    assert abs((right - left) * size[0] - (bottom - top) * size[1]) <= max(size)


def test_a_part_of_another_place_and_share() -> None:
    assert crop_box((100, 300), (50, 100), x=0.0) == (0, 0, 200, 100)
    assert crop_box((100, 300), (50, 100), x=1.0) == (100, 0, 300, 100)
    assert crop_box((100, 300), (50, 100), x=0.0, y=1.0, share=0.5) == (0, 50, 100, 100)


def test_a_whole_multiple_is_averaged() -> None:
    picture = noise(96 * 4, 64 * 4)
    exact = np.asarray(picture, np.float64).reshape(64, 4, 96, 4, 3).mean(axis=(1, 3))
    found = np.asarray(cropped_picture(picture, (64, 96)), np.float64)
    assert found.shape == (64, 96, 3) and np.abs(found - exact).max() <= 1.0  # rounded after each direction


@pytest.mark.parametrize(("width", "height"), [(640, 480), (48, 100), (64, 64), (300, 20)])
def test_a_square_is_a_part_like_any_other(width: int, height: int) -> None:
    picture = noise(width, height)
    assert cropped_picture(picture, (64, 64)).tobytes() == square_picture(picture, 64).tobytes()
    turned = cropped_picture(picture.transpose(Image.Transpose.ROTATE_90), (64, 32)).size
    assert turned == (32, 64)


def test_width_stands_first_in_texts() -> None:
    assert (
        parse_size("96x64") == (64, 96) and parse_size("64") == (64, 64) and parse_size("96X64") == (64, 96)
    )
    assert size_text((64, 96)) == "96x64"
    assert recorded_size((64, 96)) == "96x64" and recorded_size((64, 64)) == 64


@pytest.mark.parametrize("text", ["", "x", "64x", "64x64x64", "-64x64", "6.4x64", "0x64", "99999x64", 64])
def test_other_texts_are_refused_in_one_sentence(text: object) -> None:
    with pytest.raises(InputError, match=r"^got --size .*, expected .*: .*"):
        parse_size(text)


def test_the_nearest_possible_size_is_said() -> None:
    assert check_multiple((64, 96), 16) == (64, 96)
    with pytest.raises(InputError, match=r"got --size 90x70, expected multiples of 16, .*: write 96x64$"):
        check_multiple((70, 90), 16)
    with pytest.raises(InputError, match=r"write 16x16$"):
        check_multiple((3, 5), 16)


def test_sizes_are_far_by_their_longest_difference() -> None:
    assert difference((64, 96), (64, 64)) == pytest.approx(1.5)
    assert is_far((64, 96), [(64, 64)]) and not is_far((64, 96), [(64, 64), (56, 96)])
