"""Noise schedules against the original's numbers and their closed forms."""

import math

import numpy as np
import pytest
from safetensors.numpy import load_file

from glide.diffusion.noise_schedules import SCHEDULES, make_process
from glide.utils.errors import InputError
from support.paths import GOLDEN as FOLDER

GOLDEN = load_file(FOLDER / "diffusion_math.safetensors")


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("betas.")])
def test_betas_are_the_originals(name):
    _, schedule, steps = name.split(".")
    betas = make_process(schedule, int(steps)).betas
    np.testing.assert_allclose(betas, GOLDEN[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_runs_from_signal_to_noise(schedule):
    process = make_process(schedule)
    assert len(process) == 1000 and process.timesteps.tolist() == list(range(1000))
    assert np.all(np.diff(process.alpha_bar) < 0)
    assert process.alpha_bar[0] > 0.99 and process.alpha_bar[-1] < 1e-3
    assert np.all((process.betas > 0) & (process.betas < 1))


def test_cosine_is_an_alias():
    assert np.array_equal(make_process("cosine").alpha_bar, make_process("squaredcos_cap_v2").alpha_bar)


def test_quadratic_is_linear_in_the_root():
    root = np.sqrt(make_process("quadratic").betas)
    np.testing.assert_allclose(np.diff(root, 2), 0, atol=1e-12)
    np.testing.assert_allclose(root[[0, -1]] ** 2, [1e-4, 0.02], rtol=1e-9)


def test_sigmoid_follows_its_definition():
    process = make_process("sigmoid")
    time = (np.arange(998) + 1) / 1000  # the last betas are capped
    sigmoid = 1 / (1 + np.exp(-(6 * time - 3)))
    ends = 1 / (1 + math.exp(3)), 1 / (1 + math.exp(-3))
    np.testing.assert_allclose(process.alpha_bar[:998], (ends[1] - sigmoid) / (ends[1] - ends[0]), rtol=1e-10)


def test_shift_divides_the_snr():
    plain, shifted = make_process("cosine"), make_process("cosine", shift=3.0)
    np.testing.assert_allclose(shifted.snr, plain.snr / 9.0, rtol=1e-10)
    assert np.array_equal(make_process("cosine", shift=1.0).alpha_bar, plain.alpha_bar)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_zero_terminal_snr_keeps_the_first_and_zeroes_the_last(schedule):
    plain, rescaled = make_process(schedule), make_process(schedule, zero_terminal_snr=True)
    assert rescaled.alpha_bar[-1] == 0.0 and rescaled.betas[-1] == 1.0 and rescaled.snr[-1] == 0.0
    assert rescaled.alpha_bar[0] == pytest.approx(plain.alpha_bar[0], rel=1e-12)
    # An affine map of sqrt(alpha_bar): ratios of differences stay.
    steps, wanted = np.diff(np.sqrt(rescaled.alpha_bar)), np.diff(np.sqrt(plain.alpha_bar))
    np.testing.assert_allclose(steps / steps.sum(), wanted / wanted.sum(), rtol=1e-7)
    for array in (rescaled.posterior_log_variance, rescaled.posterior_mean_coef_x0, np.log(rescaled.betas)):
        assert np.isfinite(array).all()


@pytest.mark.parametrize("shift", [1e-9, 1e-300, 1e6])
def test_a_shift_that_leaves_no_noise_or_no_signal_is_refused_or_right(shift):
    try:
        process = make_process("cosine", shift=shift)
    except InputError as error:
        assert "expected noise that grows at every step" in str(error)
    else:
        assert np.isfinite(process.posterior_log_variance).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "exponential"}, "one of linear"),
        ({"steps": 0}, "0 steps"),
        ({"shift": 0.0}, "shift 0.0"),
        ({"shift": math.nan}, "shift nan"),
        ({"schedule": "linear", "steps": 10}, "more than 20"),
        ({"steps": 1, "zero_terminal_snr": True}, "two or more"),
    ],
)
def test_impossible_processes_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        make_process(**arguments)


@pytest.mark.parametrize("steps", [21, 300, 4000])
def test_betas_scale_with_the_number_of_steps(steps):
    """The ends of linear and quadratic are 1000 / T times those of 1000 steps: the noise at the end is alike."""
    for schedule in ("linear", "quadratic"):
        betas = make_process(schedule, steps).betas
        np.testing.assert_allclose(betas[[0, -1]] * steps / 1000, [1e-4, 0.02], rtol=1e-9)


def test_zero_terminal_snr_follows_its_definition():
    """2305.08891, algorithm 1: sqrt(alpha_bar) less its last value, scaled back to its first."""
    root = np.sqrt(make_process("linear", 300).alpha_bar)
    rescaled = (root - root[-1]) * root[0] / (root[0] - root[-1])
    process = make_process("linear", 300, zero_terminal_snr=True)
    np.testing.assert_allclose(process.alpha_bar, rescaled**2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("steps", [10, 300])
def test_given_betas_are_those_of_the_annotated_article(steps):
    """Its schedules by their definitions, from 1e-4 to 0.02 for any number of steps."""
    share = np.arange(steps) / (steps - 1)
    sigmoid = 1 / (1 + np.exp(6 - 12 * share))
    expected = {
        "linear": 1e-4 + 0.0199 * share,
        "quadratic": (0.01 + (math.sqrt(0.02) - 0.01) * share) ** 2,
        "sigmoid_betas": 1e-4 + 0.0199 * sigmoid,
    }
    for schedule, betas in expected.items():
        process = make_process(schedule, steps, betas=(1e-4, 0.02))
        np.testing.assert_allclose(process.betas, betas, rtol=1e-9)
        np.testing.assert_allclose(process.alpha_bar, np.cumprod(1 - betas), rtol=1e-12)
    plain = make_process("cosine", steps)
    assert np.array_equal(make_process("cosine", steps, betas=(1e-4, 0.02)).alpha_bar, plain.alpha_bar)


@pytest.mark.parametrize("betas", [(0.1,), (0.2, 0.1), (0.0, 0.1), (0.1, 1.0), (float("nan"), 0.1)])
def test_betas_out_of_range_are_refused(betas):
    with pytest.raises(InputError, match="expected the first and the last one, above 0 and below 1"):
        make_process("linear", 300, betas=betas)


def test_geometric_noise_beside_pictures_follows_its_definition():
    """2011.13456, appendix C: sigma_t is geometric in t; x_t is divided by its deviation."""
    share = np.arange(300) / 299
    for ends in ((0.02, 100.0), (0.02, 2 * 1348.0)):
        process = make_process("geometric", 300, sigmas=ends)
        sigmas = ends[0] * (ends[1] / ends[0]) ** share
        np.testing.assert_allclose(process.alpha_bar, 1 / (1 + sigmas**2), rtol=1e-9)
    np.testing.assert_allclose(
        make_process("geometric", 300).alpha_bar,
        make_process("geometric", 300, sigmas=(0.02, 100.0)).alpha_bar,
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("schedule", "sigmas"), [("linear", (0.1, 1.0)), ("geometric", (1.0, 0.1)), ("geometric", (1.0,))]
)
def test_sigmas_that_do_not_fit_are_refused(schedule, sigmas):
    with pytest.raises(InputError, match="expected the least and the largest, above 0, for geometric"):
        make_process(schedule, 300, sigmas=sigmas)
