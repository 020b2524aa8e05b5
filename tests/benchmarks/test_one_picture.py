"""The benchmark of one picture: it runs, and says what it is measured against."""

from pathlib import Path

import pytest

from benchmarks.one_picture import OnePicture, measure


@pytest.mark.slow
def test_it_measures_one_and_many(text_folder: Path) -> None:
    machine, one, many = measure(OnePicture(str(text_folder), pictures=3, steps=2, device="cpu", repeats=1))
    assert "float32" in machine
    assert one.startswith("one picture, 2 steps of cfg, default: ")
    assert many.startswith("3 pictures, 2 steps of cfg, default: ")
    assert all("times call_size=1" in line and "times call_size=8" in line for line in (one, many))
