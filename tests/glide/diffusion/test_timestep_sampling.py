"""Timestep samplers: their distributions, their unbiasedness, and that a run can resume with them."""

import pytest
import torch

from glide.diffusion.timestep_sampling import LogitNormalTimesteps, LossSecondMoment, UniformTimesteps
from glide.utils.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_uniform_timesteps_cover_everything_with_weight_one():
    sampler = UniformTimesteps(10)
    t, weight = sampler.sample(10_000, generator())
    assert t.dtype == torch.int64 and weight.eq(1).all()
    assert torch.bincount(t, minlength=10).float().div(1000).sub(1).abs().max() < 0.15
    assert torch.equal(t, sampler.sample(10_000, generator())[0])
    assert sampler.state_dict() == {}


def test_a_power_prefers_noisy_timesteps():
    sampler = UniformTimesteps(10, power=2.0)
    t, weight = sampler.sample(50_000, generator())
    assert weight.eq(1).all() and int(t.max()) == 9
    k = torch.arange(10).double()
    expected = ((k + 1) ** 3 - k**3) / 1000  # the integral of 3 t^2 over each tenth
    assert torch.bincount(t, minlength=10).double().div(50_000).sub(expected).abs().max() < 0.01
    with pytest.raises(InputError, match="power -1"):
        UniformTimesteps(10, -1)


def test_logit_normal_timesteps_have_its_distribution():
    sampler = LogitNormalTimesteps(1000, mean=0.2, deviation=0.9)
    t, weight = sampler.sample(100_000, generator())
    assert weight.eq(1).all() and int(t.min()) >= 0 and int(t.max()) <= 999
    logit = torch.tensor([250.0, 500.0, 750.0]).div(1000).logit()
    expected = torch.special.ndtr((logit - 0.2) / 0.9)
    found = torch.stack([(t < bound).float().mean() for bound in (250, 500, 750)])
    torch.testing.assert_close(found, expected, atol=0.005, rtol=0)
    with pytest.raises(InputError, match="deviation 0"):
        LogitNormalTimesteps(10, deviation=0)


def filled(steps=4, history=3):
    sampler = LossSecondMoment(steps, history, uniform_prob=0.1)
    for _ in range(history):
        sampler.update(torch.arange(steps), torch.arange(steps) + 1.0)
    return sampler


def test_second_moment_is_uniform_until_every_timestep_is_known():
    sampler = LossSecondMoment(4, history=2)
    sampler.update(torch.tensor([0, 0, 1, 1, 2, 2, 3]), torch.tensor([9.0, 9, 1, 1, 1, 1, 1]))
    assert sampler.probabilities().tolist() == [0.25] * 4
    sampler.update(torch.tensor([3]), torch.tensor([1.0]))
    p = sampler.probabilities()
    assert p[0] == pytest.approx(0.999 * 9 / 12 + 0.00025) and p[1:].sum() == pytest.approx(1 - p[0].item())


def test_second_moment_prefers_large_losses_without_bias():
    sampler = filled()
    p = 0.9 * torch.tensor([1.0, 2, 3, 4], dtype=torch.float64) / 10 + 0.1 / 4
    torch.testing.assert_close(sampler.probabilities(), p)
    t, weight = sampler.sample(40_000, generator())
    torch.testing.assert_close(torch.bincount(t).double() / 40_000, p, atol=0.01, rtol=0)
    values = torch.tensor([3.0, -1.0, 0.5, 7.0])
    assert (weight * values[t]).mean().item() == pytest.approx(values.mean().item(), rel=0.03)


def test_second_moment_forgets_the_oldest_losses():
    sampler = filled()
    sampler.update(torch.tensor([0, 0, 0, 0]), torch.tensor([100.0, 5, 5, 5]))
    assert sampler.losses[0].tolist() == [5, 5, 5]
    assert sampler.losses[1].tolist() == [2, 2, 2]


def test_second_moment_uses_the_root_mean_square():
    sampler = LossSecondMoment(2, history=2, uniform_prob=0.0)
    sampler.update(torch.tensor([0, 0, 1, 1]), torch.tensor([1.0, 7.0, 5.0, 5.0]))
    torch.testing.assert_close(sampler.probabilities(), torch.tensor([0.5, 0.5], dtype=torch.float64))


def test_second_moment_survives_a_restart():
    sampler, copy = filled(), LossSecondMoment(4, 3, uniform_prob=0.1)
    copy.load_state_dict(sampler.state_dict())
    for each in (sampler, copy):
        each.update(torch.tensor([2]), torch.tensor([8.0]))
    for ours, theirs in zip(sampler.sample(100, generator()), copy.sample(100, generator()), strict=True):
        assert torch.equal(ours, theirs)
    assert all(isinstance(value, torch.Tensor) for value in sampler.state_dict().values())


def test_no_loss_at_all_is_uniform():
    sampler = LossSecondMoment(3, history=1)
    sampler.update(torch.arange(3), torch.zeros(3))
    assert sampler.sample(5, generator())[1].tolist() == [1.0] * 5


@pytest.mark.parametrize("options", [{"history": 0}, {"uniform_prob": 1.5}])
def test_impossible_samplers_are_refused(options):
    with pytest.raises(InputError):
        LossSecondMoment(10, **options)
