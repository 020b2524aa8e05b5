"""Losses against the original's numbers, against each other, and the bound against a Gaussian's entropy."""

import itertools
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from glide.diffusion.denoiser import Prediction
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.losses import loss_terms, loss_weights
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import respacing
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.variational_bound import bits_per_dimension, prior_bits
from glide.utils.errors import InputError
from support.paths import GOLDEN as FOLDER

GOLDEN = load_file(FOLDER / "loss_hybrid.safetensors")
COSINE = make_process("cosine")
T = torch.tensor([0, 1, 300, 700, 999])


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def example(process=COSINE, t=T):
    x0, noise = randn(len(t), 3, 8, 8).clamp(-1, 1), randn(len(t), 3, 8, 8, seed=1)
    return x0, process.q_sample(x0, t, noise), t, noise


def golden_terms(config, output=None):
    names = ("x0", "x_t", "timesteps", "noise")
    return loss_terms(
        COSINE, config, GOLDEN["model_output"] if output is None else output, *map(GOLDEN.get, names)
    )


# --- the hybrid loss ----------------------------------------------------------------------


def test_the_hybrid_loss_is_the_originals():
    terms = golden_terms(LossConfig())
    for ours, theirs in {"loss": "loss", "mse": "mse", "vb": "vb_bits"}.items():
        torch.testing.assert_close(terms[ours], GOLDEN[theirs], rtol=1e-5, atol=0)
    torch.testing.assert_close(prior_bits(COSINE, GOLDEN["x0"]), GOLDEN["prior_bits"], rtol=1e-4, atol=0)


def test_lambda_scales_the_bound_of_all_timesteps():
    terms = golden_terms(LossConfig(vlb_weight=0.01))
    torch.testing.assert_close(terms["loss"], terms["mse"] + 0.01 * 1000 * terms["vb"])


def test_the_bound_trains_only_the_variance_in_the_hybrid_loss():
    output = GOLDEN["model_output"].clone().requires_grad_()
    terms = golden_terms(LossConfig(), output)
    (bound,) = torch.autograd.grad(terms["vb"].sum(), output, retain_graph=True)
    assert bound[:, :3].abs().max() == 0 and bound[:, 3:].abs().amin(dim=(1, 2, 3)).gt(0).all()
    (both,) = torch.autograd.grad(terms["loss"].sum(), output)
    assert torch.isfinite(both).all() and both[:, :3].abs().max() > 0


def test_the_full_bound_trains_mean_and_variance():
    output = GOLDEN["model_output"].clone().requires_grad_()
    terms = golden_terms(LossConfig(full_vlb=True), output)
    torch.testing.assert_close(terms["loss"], 1000 * terms["vb"])
    torch.testing.assert_close(terms["vb"], GOLDEN["vb_bits"], rtol=1e-5, atol=0)
    (gradient,) = torch.autograd.grad(terms["loss"].sum(), output)
    assert torch.isfinite(gradient).all()
    assert all(part.abs().amax(dim=(1, 2, 3)).gt(0).all() for part in gradient.chunk(2, dim=1))


def test_without_a_learned_variance_the_bound_is_optional():
    x0, x_t, t, noise = example()
    terms = loss_terms(COSINE, LossConfig(), randn(*x0.shape, seed=2), x0, x_t, t, noise)
    assert list(terms) == ["loss", "mse"] and torch.equal(terms["loss"], terms["mse"])
    # The posterior's own variance: v = -1.
    output = randn(*x0.shape, seed=2)
    fixed = loss_terms(COSINE, LossConfig(full_vlb=True), output, x0, x_t, t, noise)
    learned = torch.cat([output, -torch.ones_like(output)], dim=1)
    torch.testing.assert_close(
        fixed, loss_terms(COSINE, LossConfig(full_vlb=True), learned, x0, x_t, t, noise)
    )


# --- prediction spaces, kinds, weightings -------------------------------------------------


@pytest.mark.parametrize("space", ["eps", "x0", "v"])
def test_the_right_answer_costs_nothing(space):
    x0, x_t, t, noise = example()
    alpha, sigma = (torch.from_numpy(f).float()[t].view(-1, 1, 1, 1) for f in roots(COSINE))
    output = {"eps": noise, "x0": x0, "v": alpha * noise - sigma * x0}[space]
    assert loss_terms(COSINE, LossConfig(prediction=space), output, x0, x_t, t, noise)["loss"].max() < 1e-10


def roots(process):
    return np.sqrt(process.alpha_bar), np.sqrt(1 - process.alpha_bar)


@pytest.mark.parametrize("weighting", ["eps", "x0", "v", "min_snr", "p2"])
def test_a_weighting_means_the_same_in_every_space(weighting):
    """One and the same wrong x_0, said as eps, as x0 and as v, costs the same."""
    t = torch.tensor([50, 300, 700, 950])
    x0, x_t, t, noise = example(t=t)
    alpha, sigma = (torch.from_numpy(f).float()[t].view(-1, 1, 1, 1) for f in roots(COSINE))
    wrong = x0 + 0.3 * randn(*x0.shape, seed=3)
    eps = (x_t - alpha * wrong) / sigma
    outputs = {"eps": eps, "x0": wrong, "v": alpha * eps - sigma * wrong}
    losses = {}
    for space, output in outputs.items():
        config = LossConfig(prediction=space, weighting=weighting)
        losses[space] = loss_terms(COSINE, config, output, x0, x_t, t, noise)["loss"]
    torch.testing.assert_close(losses["eps"], losses["x0"], rtol=1e-3, atol=0)
    torch.testing.assert_close(losses["v"], losses["x0"], rtol=1e-3, atol=0)
    if weighting in outputs:
        plain = loss_terms(COSINE, LossConfig(prediction=weighting), outputs[weighting], x0, x_t, t, noise)[
            "loss"
        ]
        torch.testing.assert_close(losses[weighting], plain)


def test_weights_follow_their_papers():
    snr = COSINE.snr
    weights = lambda **options: loss_weights(COSINE, LossConfig(**options))
    np.testing.assert_allclose(weights(weighting="min_snr"), np.minimum(5 / snr, 1))
    np.testing.assert_allclose(weights(weighting="min_snr", prediction="x0", gamma=3.0), np.minimum(snr, 3))
    np.testing.assert_allclose(weights(weighting="min_snr", prediction="v"), np.minimum(snr, 5) / (snr + 1))
    np.testing.assert_allclose(weights(weighting="p2", p2_gamma=0.5, p2_k=2.0), 1 / (2 + snr) ** 0.5)
    np.testing.assert_allclose(weights(weighting="p2", p2_gamma=0.0), 1)
    clipped = weights(weighting="v", prediction="x0", max_weight=20.0)
    np.testing.assert_allclose(clipped, np.minimum(snr + 1, 20))
    assert clipped.max() == 20.0 and (weights() == 1).all()


def test_kinds_of_error():
    x0, x_t, t, noise = example()
    output = noise + torch.tensor([0.5, -0.5, 2.0, -2.0, 0.0]).view(-1, 1, 1, 1)
    expected = {
        "l2": [0.25, 0.25, 4.0, 4.0, 0.0],
        "l1": [0.5, 0.5, 2.0, 2.0, 0.0],
        "huber": [0.125, 0.125, 1.5, 1.5, 0.0],
    }
    for kind, values in expected.items():
        terms = loss_terms(COSINE, LossConfig(kind=kind), output, x0, x_t, t, noise)
        torch.testing.assert_close(terms["loss"], torch.tensor(values), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(terms["mse"], torch.tensor(expected["l2"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("space", ["v", "x0"])
def test_zero_terminal_snr_trains(space):
    process = make_process("cosine", zero_terminal_snr=True)
    x0, x_t, t, noise = example(process)
    output = randn(5, 6, 8, 8, seed=2).requires_grad_()
    for weighting, full_vlb in itertools.product(("none", "min_snr", "p2", "v"), (False, True)):
        config = LossConfig(prediction=space, weighting=weighting, full_vlb=full_vlb)
        loss = loss_terms(process, config, output, x0, x_t, t, noise)["loss"]
        (gradient,) = torch.autograd.grad(loss.sum(), output)
        assert torch.isfinite(loss).all() and torch.isfinite(gradient).all()
    with pytest.raises(InputError, match="zero terminal SNR"):
        loss_terms(process, LossConfig(), output, x0, x_t, t, noise)


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "l3"},
        {"weighting": "snr"},
        {"gamma": 0.0},
        {"max_weight": -1.0},
        {"vlb_weight": -0.1},
        {"p2_k": 0.0},
    ],
)
def test_impossible_losses_are_refused(options):
    with pytest.raises(InputError, match=str(next(iter(options.values())))):
        LossConfig(**options)


def test_half_precision_outputs_are_compared_in_float32():
    x0, x_t, t, noise = example()
    output = randn(5, 6, 8, 8, seed=2).bfloat16()
    terms = loss_terms(COSINE, LossConfig(), output, x0, x_t, t, noise)
    assert {term.dtype for term in terms.values()} == {torch.float32}
    torch.testing.assert_close(terms, loss_terms(COSINE, LossConfig(), output.float(), x0, x_t, t, noise))


# --- bits per dimension -------------------------------------------------------------------


def test_the_bound_is_the_entropy_where_the_reverse_process_is_exact():
    """For Gaussian data every reverse step is Gaussian, so with the exact ones the bound is tight at any number of
    steps: the entropy of the data in bins of 2/255."""
    std, process = 0.3, make_process("linear").respaced(respacing("40", 1000))
    variance = process.alpha_bar * std**2 + 1 - process.alpha_bar
    gain = np.sqrt(process.alpha_bar) * std**2 / variance
    left = std**2 * (1 - process.alpha_bar) / variance  # of x_0, given x_t
    exact = process.posterior_mean_coef_x0**2 * left + process.posterior_variance
    small = process.posterior_log_variance
    v = 2 * (np.log(exact) - small) / (np.log(process.betas) - small) - 1

    def denoise(x, t):
        i = process.timesteps.tolist().index(t)
        return Prediction(float(gain[i]) * x, torch.full_like(x, float(v[i])))

    x0 = (std * randn(2, 1, 128, 128)).mul(127.5).round().div(127.5).clamp(-1, 1)
    steps = list(bits_per_dimension(denoise, process, x0, SeededNoise([0, 1])))
    assert [step.t for step in steps] == process.timesteps[::-1].tolist()
    entropy = math.log2(std * 127.5 * math.sqrt(2 * math.pi * math.e))
    torch.testing.assert_close(steps[-1].total, torch.full((2,), entropy), rtol=0.005, atol=0)
    torch.testing.assert_close(steps[-1].total, steps[-1].prior + sum(step.vb for step in steps))
    for i, step in enumerate(reversed(steps)):
        assert step.x0_mse.mean().item() == pytest.approx(left[i], rel=0.05)
        torch.testing.assert_close(step.mse, float(process.snr[i]) * step.x0_mse)


def test_a_worse_model_needs_more_bits():
    process = COSINE.respaced(respacing("20", 1000))
    x0 = randn(3, 3, 8, 8).clamp(-1, 1)

    def bits(error):
        denoise = lambda x, t: Prediction(x0 + error)
        return list(bits_per_dimension(denoise, process, x0, SeededNoise([0, 1, 2]), "fixed_small"))[-1].total

    assert (bits(0.0) < bits(0.1)).all() and (bits(0.1) < bits(0.3)).all()


def test_the_prior_is_a_gaussian_divergence():
    process = make_process("linear", 25)  # ends with a signal that float32 can see
    x0 = randn(3, 3, 8, 8).clamp(-1, 1)
    alpha_bar = float(process.alpha_bar[-1])
    q = torch.distributions.Normal(math.sqrt(alpha_bar) * x0.double(), math.sqrt(1 - alpha_bar))
    p = torch.distributions.Normal(torch.zeros(()).double(), 1.0)
    expected = torch.distributions.kl_divergence(q, p).mean(dim=(1, 2, 3)) / math.log(2)
    torch.testing.assert_close(prior_bits(process, x0), expected.float(), rtol=1e-4, atol=1e-12)


def test_bits_without_a_learned_variance_need_a_fixed_one():
    steps = bits_per_dimension(lambda x, t: Prediction(x), COSINE, randn(1, 3, 4, 4), SeededNoise([0]))
    with pytest.raises(InputError, match="fixed_small"):
        next(steps)
