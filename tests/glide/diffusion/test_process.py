"""Respacings against the original's numbers, posteriors against Bayes' rule."""

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process, gather, respacing
from glide.utils.errors import InputError
from support.paths import GOLDEN as FOLDER

GOLDEN = load_file(FOLDER / "diffusion_math.safetensors")


@pytest.mark.parametrize("name", [name for name in GOLDEN if name.startswith("timesteps.")])
def test_respacings_are_the_originals(name):
    assert respacing(name.removeprefix("timesteps."), 1000) == GOLDEN[name].tolist()


def test_respaced_coefficients_are_the_originals():
    process = make_process("squaredcos_cap_v2").respaced(respacing("100", 1000))
    for ours, theirs in {
        "betas": "betas",
        "alpha_bar": "alphas_cumprod",
        "posterior_variance": "posterior_variance",
        "posterior_log_variance": "posterior_log_variance_clipped",
        "posterior_mean_coef_x0": "posterior_mean_coef1",
        "posterior_mean_coef_xt": "posterior_mean_coef2",
    }.items():
        expected = GOLDEN[f"spaced100_cosine.{theirs}"]
        np.testing.assert_allclose(getattr(process, ours), expected, rtol=0, atol=1e-12, err_msg=ours)


@pytest.mark.parametrize("spec", ["100", "fast27", "ddim50", "3", "2", "1"])
def test_posterior_is_bayes_rule(spec):
    """q(x_{t-1} | x_t, x_0) from the product of two Gaussians in x_{t-1}, their precisions added."""
    process = make_process("linear").respaced(respacing(spec, 1000))
    prior_variance = 1 - process.alpha_bar_prev[1:]  # x_{t-1} given x_0
    alpha, beta = (process.alpha_bar / process.alpha_bar_prev)[1:], process.betas[1:]  # x_t given x_{t-1}
    variance = 1 / (1 / prior_variance + alpha / beta)
    np.testing.assert_allclose(process.posterior_variance[1:], variance, rtol=1e-9)
    np.testing.assert_allclose(
        process.posterior_mean_coef_x0[1:],
        variance * np.sqrt(process.alpha_bar_prev[1:]) / prior_variance,
        rtol=1e-9,
    )
    np.testing.assert_allclose(
        process.posterior_mean_coef_xt[1:], variance * np.sqrt(alpha) / beta, rtol=1e-9
    )
    # The last step lands on x_0.
    assert process.posterior_variance[0] == 0.0 and process.posterior_mean_coef_xt[0] == 0.0
    assert process.posterior_mean_coef_x0[0] == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(process.posterior_log_variance).all()


def test_respaced_keeps_marginals_and_remembers_timesteps():
    process = make_process("cosine")
    once = process.respaced(respacing("100", 1000))
    twice = once.respaced([0, 50, 99])
    assert twice.timesteps.tolist() == [0, 505, 999]
    assert np.array_equal(twice.alpha_bar, process.alpha_bar[[0, 505, 999]])
    assert twice.betas[1] == pytest.approx(1 - np.prod(1 - process.betas[1:506]), rel=1e-10)


def test_one_step_starts_at_the_noisiest_timestep():
    assert respacing("1", 1000) == [999]
    process = make_process("cosine").respaced([999])
    assert len(process) == 1 and process.posterior_log_variance[0] == np.log(process.betas[0])


@pytest.mark.parametrize(
    ("spec", "steps", "message"),
    [
        ("0", 1000, "'0'"),
        ("", 1000, "expected a count"),
        ("ten", 1000, "'ten'"),
        ("-5", 1000, "'-5'"),
        ("10,,2", 1000, "'10,,2'"),
        ("1001", 1000, "at most 1000 steps"),
        ("500,501", 1000, "section 2 of 2"),
        ("ddim300", 1000, "whole stride"),
        ("ddim10,10", 1000, "whole stride"),
        ("ddim", 1000, "'ddim'"),
        ("ddim1", 1000, "whole stride"),  # timestep 0 alone, where there is nothing left to denoise
        ("ddim1", 2, "whole stride"),
        ("ddim0", 1000, "'ddim0'"),
        ("9" * 5000, 1000, "expected a count"),
        ("ddim" + "9" * 5000, 1000, "expected a count"),
        ("fast27", 20, "'fast27', expected at most 4 steps in section 1 of 5"),
    ],
)
def test_a_respacing_that_does_not_fit_is_refused(spec, steps, message):
    with pytest.raises(InputError, match=message):
        respacing(spec, steps)


@pytest.mark.parametrize("steps", [1, 2, 50, 1000])
def test_a_single_step_is_the_noisiest(steps):
    """Of every form that keeps one timestep: it is the noisiest."""
    for spec in ("1", "01", "ddim1", "fast27", "1,1", "ddim2"):
        try:
            kept = respacing(spec, steps)
        except InputError:
            continue
        assert len(kept) > 1 or kept == [steps - 1]


@pytest.mark.parametrize("spec", ["2", "27", "fast27", "ddim10", "10,10,3,2,2"])
@pytest.mark.parametrize("steps", [50, 1000, 4000])
def test_respacings_are_increasing_and_within_the_process(spec, steps):
    kept = respacing(spec, steps)
    assert kept == sorted(set(kept)) and kept[0] == 0 and kept[-1] < steps
    assert len(make_process("cosine", steps).respaced(kept)) == len(kept)


@pytest.mark.parametrize("keep", [[], [3, 2], [2, 2], [-1, 4], [5, 1000]])
def test_respaced_refuses_missing_timesteps(keep):
    with pytest.raises(InputError):
        make_process("cosine").respaced(keep)


def test_q_sample_mixes_each_row_at_its_own_timestep():
    process = make_process("linear")
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(3, 2, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    t = torch.tensor([0, 500, 999])
    x_t = process.q_sample(x0, t, noise)
    for row, step in enumerate(t.tolist()):
        alpha_bar = process.alpha_bar[step]
        expected = math.sqrt(alpha_bar) * x0[row] + math.sqrt(1 - alpha_bar) * noise[row]
        torch.testing.assert_close(x_t[row], expected, rtol=1e-12, atol=1e-12)


def test_gather_shapes_and_types():
    table, t = make_process("linear").alpha_bar, torch.tensor([1, 5])
    assert gather(table, t, torch.zeros(2, 3, 4, 4)).shape == (2, 1, 1, 1)
    assert gather(table, t, torch.zeros(2, dtype=torch.bfloat16)).dtype == torch.float32
    assert gather(table, t, torch.zeros(2, dtype=torch.float64)).tolist() == table[[1, 5]].tolist()


def test_alpha_bar_must_decrease():
    with pytest.raises(AssertionError):
        Process(np.array([0.5, 0.6]), np.arange(2))
