"""Spacings: against their formulas, and what holds for all of them."""

import numpy as np
import pytest

from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import respacing
from glide.diffusion.timestep_spacing import MAX_NOISE_RATIO, SPACINGS, space_timesteps
from glide.utils.errors import InputError

LINEAR, COSINE = make_process("linear"), make_process("cosine")
ZERO = make_process("cosine", zero_terminal_snr=True)
ALL = ("uniform", *SPACINGS)


def ratios(process, kept):
    alpha_bar = process.alpha_bar[kept]
    return np.sqrt((1 - alpha_bar) / alpha_bar)


@pytest.mark.parametrize("spacing", ALL)
@pytest.mark.parametrize("process", [LINEAR, COSINE, ZERO, make_process("linear", 30)])
def test_the_requested_number_of_timesteps_in_order(spacing, process):
    steps = len(process)
    for n in (1, 2, 3, 10, steps - 1, steps):
        kept = space_timesteps(process, str(n), spacing)
        assert len(kept) == n and kept == sorted(set(kept)) and kept[0] >= 0 and kept[-1] < steps
    assert space_timesteps(process, "1", spacing) == [steps - 1]
    if not spacing.startswith("trailing"):
        assert space_timesteps(process, "3", spacing)[0] == 0


def test_uniform_is_the_respacing_of_old():
    for spec in ("27", "fast27", "ddim50", "10,10,3,2,2"):
        assert space_timesteps(LINEAR, spec) == respacing(spec, 1000)


def test_half_of_the_steps_of_a_trailing_spacing_are_every_second_one():
    for spacing in ("trailing", "trailing-quadratic"):
        eight, four = (space_timesteps(LINEAR, n, spacing) for n in ("8", "4"))
        assert eight[1::2] == four and four[-1] == 999
    assert space_timesteps(LINEAR, "4", "trailing-quadratic") == [61, 249, 561, 999]


def test_trailing():
    assert space_timesteps(LINEAR, "4", "trailing") == [249, 499, 749, 999]
    assert space_timesteps(LINEAR, "3", "trailing") == [332, 666, 999]


def test_quadratic():
    assert space_timesteps(LINEAR, "4", "quadratic") == [0, 111, 444, 999]


@pytest.mark.parametrize("process", [LINEAR, COSINE])
def test_log_snr_is_even_in_it(process):
    kept = space_timesteps(process, "9", "log-snr")
    found = np.log(ratios(process, kept))
    assert np.diff(found) == pytest.approx(np.full(8, (found[-1] - found[0]) / 8), rel=0.1)
    assert MAX_NOISE_RATIO * 0.8 < np.exp(found[-1]) <= MAX_NOISE_RATIO


@pytest.mark.parametrize("process", [LINEAR, COSINE])
def test_karras_is_even_in_the_seventh_root(process):
    """EDM's equation 5, between the ends of the process."""
    kept = space_timesteps(process, "9", "karras")
    found = ratios(process, kept)
    low, high = found[0], found[-1]
    expected = [(high ** (1 / 7) + i / 8 * (low ** (1 / 7) - high ** (1 / 7))) ** 7 for i in range(9)][::-1]
    assert found[1:] == pytest.approx(expected[1:], rel=0.05)  # timesteps are whole numbers
    assert MAX_NOISE_RATIO * 0.8 < high <= MAX_NOISE_RATIO


@pytest.mark.parametrize("spacing", ["log-snr", "karras"])
def test_noise_alone_stands_where_the_most_noise_does(spacing):
    kept = space_timesteps(ZERO, "9", spacing)
    assert kept[-1] == 999 and ratios(ZERO, kept[:-1]).max() < MAX_NOISE_RATIO / 2


@pytest.mark.parametrize(
    ("spec", "spacing", "said"),
    [
        ("5", "even", "got the spacing 'even', expected uniform or quadratic"),
        ("fast27", "karras", "'karras' for the respacing 'fast27', expected a number of steps"),
        ("0", "karras", "got 0 steps, expected 1 to 1000"),
        ("1001", "trailing", "got 1001 steps"),
        ("1001", "uniform", "at most 1000"),
    ],
)
def test_mistakes_are_explained(spec, spacing, said):
    with pytest.raises(InputError, match=said):
        space_timesteps(LINEAR, spec, spacing)
