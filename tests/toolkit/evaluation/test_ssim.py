"""SSIM against closed forms and a second implementation, window by window in double precision."""

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from toolkit.evaluation import ssim as module
from toolkit.evaluation.ssim import ssim

C1, C2 = 2.55**2, 7.65**2  # (0.01 * 255)^2, (0.03 * 255)^2


def pictures(height: int, width: int, channels: int = 3) -> tuple[Tensor, Tensor]:
    """Two that have something in common."""
    rng = np.random.default_rng(0)
    first = rng.integers(0, 256, (height, width, channels))
    second = np.clip(first * 0.7 + rng.integers(-40, 80, first.shape), 0, 255)
    return torch.from_numpy(first.astype(np.uint8)), torch.from_numpy(second.astype(np.uint8))


def slow(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
    """Wang 2004, eqs. 13 to 16, with two-pass variances."""
    line = [math.exp(-((i - 5) ** 2) / (2 * 1.5**2)) for i in range(11)]
    window = np.outer(line, line)
    window /= window.sum()
    height, width, channels = first.shape
    found = []
    for c in range(channels):
        for top in range(height - 10):
            for left in range(width - 10):
                x, y = (one[top : top + 11, left : left + 11, c].astype(float) for one in (first, second))
                mean_x, mean_y = (window * x).sum(), (window * y).sum()
                var_x, var_y = (window * (x - mean_x) ** 2).sum(), (window * (y - mean_y) ** 2).sum()
                cov = (window * (x - mean_x) * (y - mean_y)).sum()
                luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
                found.append(luminance * (2 * cov + C2) / (var_x + var_y + C2))
    return float(np.mean(found))


def test_the_window_is_a_gaussian_that_adds_up_to_one() -> None:
    assert sum(module.WEIGHTS) == pytest.approx(1, abs=1e-15)
    assert module.WEIGHTS[5] / module.WEIGHTS[2] == pytest.approx(math.exp(9 / (2 * 1.5**2)))


@pytest.mark.parametrize("size", [(11, 11, 1), (17, 23, 3), (14, 12, 4)])
def test_against_a_second_implementation(size: tuple[int, int, int]) -> None:
    first, second = pictures(*size)
    found = ssim(first, second)
    assert found == pytest.approx(slow(first.numpy(), second.numpy()), abs=1e-12)
    assert found is not None and 0.1 < found < 0.95


def test_equal_pictures() -> None:
    first, _ = pictures(30, 20)
    assert ssim(first, first) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), [(0, 255), (100, 110), (255, 254)])
def test_flat_pictures(a: int, b: int) -> None:
    first, second = (torch.full((13, 15, 3), value, dtype=torch.uint8) for value in (a, b))
    assert ssim(first, second) == pytest.approx((2 * a * b + C1) / (a * a + b * b + C1), abs=1e-9)


def test_a_constant_offset_changes_the_luminance_alone() -> None:
    ramp = torch.arange(40, dtype=torch.uint8).expand(11, 40)[..., None].contiguous()
    # the mean of a ramp's window is its middle; variances and covariance are equal
    middles = np.arange(5, 35, dtype=float)
    expected = np.mean((2 * middles * (middles + 60) + C1) / (middles**2 + (middles + 60) ** 2 + C1))
    assert ssim(ramp, ramp + 60) == pytest.approx(expected, abs=1e-12)


def test_bands_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = pictures(50, 20)
    whole = ssim(first, second)
    monkeypatch.setattr(module, "BAND", 7)
    assert ssim(first, second) == pytest.approx(whole, abs=1e-12)


def test_a_picture_smaller_than_a_window_has_none() -> None:
    assert ssim(*pictures(10, 200)) is None and ssim(*pictures(200, 10)) is None
