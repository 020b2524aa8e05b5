"""Muon, the rate's schedule and the weight averages against what they are defined to be."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.training.config import OptimConfig
from glide.training.ema import EMA
from glide.training.muon import Muon, orthogonalize
from glide.training.optim import Optimizer, split_parameters


def test_orthogonalize_keeps_the_singular_vectors_and_levels_the_values() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 16, 40), (2, 40, 16)):
        g = torch.randn(shape, generator=generator)
        o = orthogonalize(g)
        assert (torch.linalg.svdvals(o) - 0.95).abs().max() < 0.35
        u, _, vh = torch.linalg.svd(g, full_matrices=False)
        inner = u.mT @ o @ vh.mT  # diagonal where the vectors are the same
        off = inner - torch.diag_embed(torch.diagonal(inner, dim1=-2, dim2=-1))
        assert off.abs().max() < 0.1


def test_muon_steps_by_its_rate_for_any_gradient_scale() -> None:
    for scale in (1e-6, 1.0, 1e6):
        torch.manual_seed(0)
        conv = nn.Conv2d(8, 16, 3)
        before = conv.weight.detach().clone()
        conv.weight.grad = scale * torch.randn_like(conv.weight)
        Muon([conv.weight], lr=0.1).step()
        moved = torch.linalg.svdvals((conv.weight.detach() - before).reshape(16, -1)) / 0.1
        assert moved.min() > 0.6 and moved.max() < 1.3


def test_rate_rises_stays_and_falls() -> None:
    config = OptimConfig(warmup=10, cooldown=0.5)
    rates = [config.rate(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and rates[9:51] == [1.0] * 42
    assert rates[75] == pytest.approx(0.5) and rates[99] == pytest.approx(0.02)
    assert [OptimConfig(warmup=0).rate(step, 10) for step in (0, 9)] == [1.0, 1.0]


def test_averages_are_the_recursion_they_claim() -> None:
    model = nn.Linear(3, 2)
    averages = EMA(model, (0.5, 0.999))
    expected = {d: model.weight.detach().clone() for d in (0.5, 0.999)}
    for step in range(20):
        with torch.no_grad():
            model.weight.normal_()
        averages.update(step)
        for decay, value in expected.items():
            d = min(decay, (1 + step) / (10 + step))
            expected[decay] = d * value + (1 - d) * model.weight.detach()
    for decay, value in expected.items():
        torch.testing.assert_close(averages.weights[decay]["weight"], value)


def test_muon_gets_the_inner_matrices_only() -> None:
    model = Model(PRESETS["tiny"])
    matrices, rest = split_parameters(model)
    names = {id(p): name for name, p in model.named_parameters()}
    inner = {names[id(p)] for p in matrices}
    assert len(matrices) + len(rest) == len(names)
    assert "unet.down.0.res.conv_in.weight" in inner and "text.blocks.0.qkv.weight" in inner
    assert not inner & {"unet.stem.weight", "unet.head.weight", "text.tokens.weight", "text.positions"}


def test_a_state_of_other_parameters_is_refused() -> None:
    """As a checkpoint that somebody changed may hold it: the next step would fail, or move the weights wrongly."""

    def state() -> list[dict[str, Any]]:
        model = nn.Linear(3, 2)
        optimizer = Optimizer(model, OptimConfig(), 10)
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step(0)
        return copy.deepcopy(optimizer.state_dict())

    fresh = Optimizer(nn.Linear(3, 2), OptimConfig(), 10)
    fresh.load_state_dict(state())
    changes: list[Callable[[dict[str, Any]], object]] = [
        lambda part: part["param_groups"][0].update(lr="x"),
        lambda part: part["param_groups"][0].update(betas=[0.9]),
        lambda part: part["param_groups"].append({}),
        lambda part: part["state"][0].update(exp_avg=torch.zeros(5)),
        lambda part: part["state"][1].update(exp_avg_sq="x"),
        lambda part: part["state"][1].update(step=None),
    ]
    for change in changes:
        changed = state()
        change(changed[0])
        with pytest.raises(ValueError):
            fresh.load_state_dict(changed)
    with pytest.raises(ValueError):
        fresh.load_state_dict([])
