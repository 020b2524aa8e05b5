"""Samplers against the exact answers for Gaussian data, whose ideal denoiser is known in closed form."""

import math

import pytest
import torch
from torch import nn

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction, Predictor
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import respacing
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ancestral, ddim, ddim_noise
from glide.diffusion.timestep_spacing import SPACINGS, space_timesteps
from glide.utils.errors import InputError
from support.gaussian import Gaussian, last, no_noise, observed, start

# --- ddim ---------------------------------------------------------------------------------


def test_ddim_converges_to_the_probability_flow():
    """The flow maps quantiles: x_0 = mean + std * (x_T - E x_T) / sqrt(Var x_T). Euler's error is of first order."""
    data = Gaussian(make_process("linear", 4000), mean=0.3, std=0.5)
    x = start(1, 1, 8, 8)
    mean, variance = data.marginal(3999)
    exact = data.mean + data.std * (x - mean) / math.sqrt(variance)
    errors = []
    for keep in ("250", "1000", "4000"):
        process = data.process.respaced(respacing(keep, 4000))
        errors.append((last(ddim(process, data.denoise, x)) - exact).abs().max().item())
    assert errors[0] < 0.04 and errors[2] < 0.0025
    assert errors[1] < errors[0] / 3 and errors[2] < errors[1] / 3


@pytest.mark.slow
def test_ddim_from_zero_terminal_snr():
    """There x_T is pure noise, and only a v or x0 prediction says where to go."""
    process = make_process("linear", 2000, zero_terminal_snr=True)
    data = Gaussian(process, mean=0.3, std=0.5)

    def net(x, t, cond):
        alpha_bar = process.alpha_bar[int(t[0])]
        x0 = data.denoise(x, int(t[0])).x0
        eps = (x - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
        return math.sqrt(alpha_bar) * eps - math.sqrt(1 - alpha_bar) * x0

    predict = Predictor(net, process, "v")
    x = start(1, 1, 8, 8)
    result = last(ddim(process, lambda x, t: predict(x, t, [Conditioning()])[0], x))
    torch.testing.assert_close(result, data.mean + data.std * x, rtol=0, atol=0.005)


def test_ddim_with_eta_one_is_ancestral_with_the_posterior_variance():
    data = Gaussian(make_process("cosine"), mean=-0.2, std=0.4)
    process = data.process.respaced(respacing("20", 1000))
    x = start(2, 3, 4, 4)
    one = ddim(process, data.denoise, x, SeededNoise([1, 2]), eta=1.0)
    other = ancestral(process, data.denoise, x, SeededNoise([1, 2]), "fixed_small")
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("spacing", ["uniform", *SPACINGS])
def test_all_noise_from_noise_alone(schedule, spacing):
    """eta 1 from a zero terminal SNR: the first step keeps nothing of x, exactly, whatever the number of steps."""
    whole = make_process(schedule, zero_terminal_snr=True)
    for steps in range(2, 60):
        process = whole.respaced(space_timesteps(whole, str(steps), spacing))
        for i in range(steps):
            alpha_bar, above = float(process.alpha_bar[i]), float(process.alpha_bar_prev[i])
            sigma, left = ddim_noise(alpha_bar, above, 1.0)
            assert sigma**2 == pytest.approx(process.posterior_variance[i], rel=1e-9)
            assert left == pytest.approx(
                process.posterior_mean_coef_xt[i] * math.sqrt(1 - alpha_bar), rel=1e-9
            )
        assert left == 0.0
    (first, *_) = ddim(process, lambda x, t: Prediction(torch.ones_like(x)), start(1, 1, 2, 2), no_noise, 1.0)
    assert torch.equal(first, torch.full_like(first, math.sqrt(process.alpha_bar_prev[-1])))


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.9, 1.0])
def test_the_noise_of_a_step_is_the_papers(eta):
    sigma, left = ddim_noise(0.2, 0.7, eta)
    assert sigma == pytest.approx(eta * math.sqrt(0.3 / 0.8 * (1 - 0.2 / 0.7)))
    assert left == pytest.approx(math.sqrt(0.3 - sigma**2))


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ddim_with_noise_keeps_the_marginals(eta):
    """Eq. 12 keeps q(x_t) for any eta where E[x_0 | x_t] = x_0: data without spread."""
    data = Gaussian(make_process("cosine"), mean=0.7, std=0.0)
    process = data.process.respaced(respacing("10", 1000))
    steps = ddim(process, data.denoise, start(4, 1, 200, 200), SeededNoise(range(4)), eta=eta)
    for x, t in zip(steps, reversed([-1, *process.timesteps.tolist()[:-1]]), strict=True):
        mean, variance = (0.7, 0.0) if t < 0 else data.marginal(t)
        assert x.mean().item() == pytest.approx(mean, abs=0.01)
        assert x.var().item() == pytest.approx(variance, rel=0.02, abs=1e-12)


# --- ancestral ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["3", "10", "40"])
def test_ancestral_with_the_right_variance_is_exact_at_any_number_of_steps(spec):
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(respacing(spec, 1000))
    x = start(4, 1, 200, 200)
    result = last(ancestral(process, data.denoise_with_variance(process), x, SeededNoise(range(4))))
    # The last step returns E[x_0 | x_1], without the spread that is left around it.
    variance = data.std**2 - data.uncertainty(0)
    assert result.mean().item() == pytest.approx(data.mean, abs=0.006)
    assert result.var().item() == pytest.approx(variance, rel=0.015)


@pytest.mark.parametrize(("variance", "std"), [("fixed_large", 1.0), ("fixed_small", 0.0)])
def test_the_fixed_variances_are_exact_where_ddpm_says_so(variance, std):
    """beta for unit Gaussian data, the posterior's for a single point (DDPM, section 3.2)."""
    data = Gaussian(make_process("linear"), mean=0.0, std=std)
    process = data.process.respaced(respacing("50", 1000))
    steps = list(ancestral(process, data.denoise, start(4, 1, 200, 200), SeededNoise(range(4)), variance))
    for x, t in zip(steps[:-1], reversed(process.timesteps.tolist()[:-1]), strict=True):
        assert x.var().item() == pytest.approx(data.marginal(t)[1], rel=0.02)
    assert steps[-1].var().item() == pytest.approx(std**2, rel=0.02, abs=1e-12)


def test_ancestral_draws_no_noise_at_the_last_step():
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(respacing("5", 1000))
    draws = []

    def noise(like):
        draws.append(like.shape)
        return torch.zeros_like(like)

    xs = list(ancestral(process, data.denoise, start(2, 1, 4, 4), noise, "fixed_small"))
    assert len(xs) == 5 and len(draws) == 4
    torch.testing.assert_close(xs[-1], data.denoise(xs[-2], 0).x0)


# --- the gradient -------------------------------------------------------------------------


def test_ddim_spends_the_gradient_exactly():
    """Bayes' rule holds for the scores at every t, so the guided trajectory is that of the posterior."""
    guided, posterior = observed(Gaussian(make_process("cosine"), mean=0.3, std=0.5), value=-0.4, noise=0.3)
    process = posterior.process.respaced(respacing("10", 1000))
    x = start(1, 1, 4, 4)
    pairs = zip(ddim(process, guided, x), ddim(process, posterior.denoise, x), strict=True)
    for ours, exact in pairs:
        torch.testing.assert_close(ours, exact, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_ancestral_with_a_gradient_samples_the_posterior():
    guided, posterior = observed(Gaussian(make_process("cosine"), mean=0.3, std=0.5), value=-0.4, noise=0.3)
    result = last(
        ancestral(posterior.process, guided, start(2, 1, 64, 64), SeededNoise([0, 1]), "fixed_small")
    )
    assert result.mean().item() == pytest.approx(posterior.mean, abs=0.02)
    assert result.std().item() == pytest.approx(posterior.std, rel=0.03)


def test_a_gradient_moves_the_mean_by_the_variance():
    process = make_process("cosine").respaced([400, 800])
    x, grad = start(1, 1, 4, 4), start(1, 1, 4, 4, seed=1)
    plain = next(ancestral(process, lambda x, t: Prediction(x), x, no_noise, "fixed_small"))
    moved = next(ancestral(process, lambda x, t: Prediction(x, None, grad), x, no_noise, "fixed_small"))
    torch.testing.assert_close(moved - plain, process.posterior_variance[1] * grad)


def test_without_signal_ddim_leaves_x0_alone():
    process = make_process("cosine", zero_terminal_snr=True).respaced([500, 999])
    x, grad = start(1, 1, 4, 4), start(1, 1, 4, 4, seed=1)
    guided = next(ddim(process, lambda x, t: Prediction(x, None, grad), x))
    assert torch.equal(guided, next(ddim(process, lambda x, t: Prediction(x), x)))


# --- both ---------------------------------------------------------------------------------

BOTH = [
    pytest.param(
        lambda process, denoise, x: ancestral(process, denoise, x, no_noise, "fixed_small"), id="ancestral"
    ),
    pytest.param(lambda process, denoise, x: ddim(process, denoise, x), id="ddim"),
]


@pytest.mark.parametrize("sampler", BOTH)
def test_one_step_returns_the_prediction(sampler):
    process = make_process("cosine").respaced(respacing("1", 1000))
    (x,) = sampler(process, lambda x, t: Prediction(torch.full_like(x, t / 1000)), start(2, 1, 4, 4))
    torch.testing.assert_close(x, torch.full_like(x, 0.999))


@pytest.mark.parametrize("sampler", BOTH)
def test_the_network_receives_training_timesteps_and_runs_without_gradients(sampler):
    told, weight = [], nn.Parameter(torch.ones(()))

    def denoise(x, t):
        told.append(t)
        return Prediction(x * weight)

    process = make_process("cosine").respaced(respacing("fast27", 1000))
    steps = sampler(process, denoise, start(1, 1, 2, 2))
    for x in steps:
        assert not x.requires_grad
        assert torch.is_grad_enabled()  # the caller's own setting, between the steps
    assert told == respacing("fast27", 1000)[::-1]


@pytest.mark.parametrize("sampler", BOTH)
def test_arithmetic_is_float32_for_any_start(sampler):
    process = make_process("cosine").respaced([0, 999])
    for x in sampler(process, lambda x, t: Prediction(x), start(1, 1, 4, 4).bfloat16()):
        assert x.dtype == torch.float32


def test_sampler_mistakes_are_explained():
    process, x = make_process("cosine").respaced([0, 999]), start(2, 1, 4, 4)
    denoise = lambda x, t: Prediction(x)
    with pytest.raises(InputError, match="fixed_small or fixed_large"):
        next(ancestral(process, denoise, x, no_noise))
    with pytest.raises(InputError, match="one of learned"):
        next(ancestral(process, denoise, x, no_noise, "huge"))
    with pytest.raises(InputError, match=r"eta 0\.5 without"):
        next(ddim(process, denoise, x, eta=0.5))
    for eta in (-0.1, 1.5, math.nan):
        with pytest.raises(InputError, match="eta"):
            next(ddim(process, denoise, x, no_noise, eta=eta))
    with pytest.raises(InputError, match="2 samples and 3 seeds"):
        next(ancestral(process, denoise, x, SeededNoise([0, 1, 2]), "fixed_small"))


# --- seeds --------------------------------------------------------------------------------


def test_a_sample_does_not_depend_on_its_batch():
    data = Gaussian(make_process("cosine"), mean=0.3, std=0.5)
    process = data.process.respaced(respacing("5", 1000))

    def sample(seeds):
        noise = SeededNoise(seeds)
        return last(ancestral(process, data.denoise, noise.randn((3, 8, 8)), noise, "fixed_large"))

    together = sample([5, 6, 7, 8])
    assert torch.equal(together, torch.cat([sample([5]), sample([6, 7]), sample([8])]))
    assert len({row.sum().item() for row in together}) == 4


def test_seeded_noise_is_gaussian_and_continues():
    noise = SeededNoise([0, 1])
    first, second = noise.randn((3, 100, 100)), noise(torch.zeros(2, 3, 100, 100, dtype=torch.float64))
    assert first.shape == second.shape == (2, 3, 100, 100) and second.dtype == torch.float64
    assert not torch.equal(first, second.float())
    assert first.mean().item() == pytest.approx(0, abs=0.02) and first.std().item() == pytest.approx(
        1, abs=0.02
    )
