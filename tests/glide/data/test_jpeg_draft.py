"""JPEGs that are much larger than what is needed are decoded smaller, and look the same."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from glide.data.buffer_pool import BufferPool
from glide.data.datasets import open_data
from glide.utils.image_files import decode_picture
from glide.utils.resize import square_picture


def jpeg(width: int, height: int) -> bytes:
    rng = np.random.default_rng(0)
    rough = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
    file = io.BytesIO()
    rough.resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", quality=95)
    return file.getvalue()


@pytest.mark.parametrize(
    ("least", "size"), [(0, (800, 600)), (301, (800, 600)), (300, (400, 300)), (64, (100, 75))]
)
def test_sides_stay_above_the_minimum(least, size):
    assert decode_picture(jpeg(800, 600), "x.jpg", least)[0].size == size


def test_the_picture_is_that_of_the_full_decoder(tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(800, 600))
    (tmp_path / "a.txt").write_text("noise")
    small = open_data(str(tmp_path), 64).batch(0, 1)["image"][0]
    full = np.array(square_picture(decode_picture(jpeg(800, 600), "x.jpg")[0], 64), np.float32)
    error = np.abs(small.permute(1, 2, 0).numpy() - full)
    assert error.mean() < 1.3 and error.max() < 13  # of 255: draft is no exact average


def test_other_formats_are_decoded_in_full():
    file = io.BytesIO()
    Image.new("RGB", (80, 80)).save(file, "PNG")
    assert decode_picture(file.getvalue(), "x.png", 8)[0].size == (80, 80)


def test_memory_is_reused_only_after_it_is_freed():
    buffers = BufferPool()
    first = torch.from_numpy(buffers.get((2, 3)))
    address, row = first.data_ptr(), first[1]
    second = torch.from_numpy(buffers.get((2, 3)))
    assert second.data_ptr() != address
    del first
    third = torch.from_numpy(buffers.get((3, 2)))  # a row of the first is still held
    assert third.data_ptr() not in (address, second.data_ptr())
    del row
    assert torch.from_numpy(buffers.get((6,))).data_ptr() == address
