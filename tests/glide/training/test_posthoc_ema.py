"""Post-hoc averages: the profiles, their inner products, the least squares, and a run's weights."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import posthoc_ema as script  # scripts/posthoc_ema.py
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from glide.checkpoints.load import load_model, read_config
from glide.training.config import TrainConfig
from glide.training.ema import EMA
from glide.training.posthoc_ema import Profile, decay, gamma_of, misfit, mixture_weights
from glide.training.posthoc_ema_snapshots import combine_snapshots, snapshots
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from support.sample_script import Capture
from support.scripts import call
from toolkit.commands.posthoc_ema import posthoc
from toolkit.commands.posthoc_ema_flags import Posthoc


def test_widths_and_exponents() -> None:
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.01) and gamma_of(0.1) == pytest.approx(6.94, abs=0.01)
    for sigma in (0.01, 0.05, 0.15, 0.25):
        profile = Profile(7.0, sigma)
        tau = (np.arange(200_000) + 0.5) / 200_000 * 7.0
        p = profile(tau) * 7.0 / 200_000
        assert p.sum() == pytest.approx(1.0, rel=1e-4)
        mean = (p * tau).sum()
        assert math.sqrt((p * (tau - mean) ** 2).sum()) / 7.0 == pytest.approx(sigma, rel=1e-3)
    for wrong in (0.0, -0.1, 0.3):
        with pytest.raises(InputError, match="relative width"):
            gamma_of(wrong)


def test_inner_products_are_the_integrals() -> None:
    tau = (np.arange(400_000) + 0.5) / 400_000 * 9.0
    for a, b in (
        (Profile(9, 0.05), Profile(9, 0.1)),
        (Profile(4, 0.2), Profile(9, 0.1)),
        (Profile(3, 0.1),) * 2,
    ):
        assert a.inner_product(b) == pytest.approx((a(tau) * b(tau)).mean() * 9.0, rel=1e-3)
        assert a.inner_product(b) == pytest.approx(b.inner_product(a), rel=1e-12)


def test_the_decay_makes_the_profile() -> None:
    """The weights that the recursion gives to each step are the density's, but for its steps."""
    sigma, steps = 0.1, 400
    given = np.zeros(steps)
    for t in range(1, steps + 1):
        given *= decay(sigma, t)
        given[t - 1] += 1 - decay(sigma, t)
    assert given.sum() == pytest.approx(1.0) and decay(sigma, 1) == 0.0
    exact = Profile(steps, sigma)(np.arange(1, steps + 1) - 0.5)
    assert np.abs(given - exact).max() < 0.03 * exact.max()


@pytest.mark.slow
def test_mixtures() -> None:
    stored = [Profile(t, s) for t in range(100, 2001, 100) for s in (0.05, 0.1)]
    for i in (5, 39):
        weights = mixture_weights(stored, stored[i])
        assert misfit(stored, weights, stored[i]) < 1e-4
    for sigma in (0.04, 0.07, 0.15, 0.2):
        for t in (1000, 2000):
            wanted = Profile(t, sigma)
            weights = mixture_weights(stored, wanted)
            assert weights.sum() == pytest.approx(1.0) and misfit(stored, weights, wanted) < 0.1, (sigma, t)
    assert misfit(stored, mixture_weights(stored, Profile(2000, 0.07)), Profile(2000, 0.07)) < 0.01
    with pytest.raises(InputError, match="no snapshots"):
        mixture_weights([], Profile(1, 0.1))
    for t, near in ((2001, 2000), (50, 100), (1970, 2000)):
        with pytest.raises(InputError, match=f"100 to 2000: the nearest is {near}"):
            mixture_weights(stored, Profile(t, 0.1))


@pytest.mark.slow
def test_the_average_that_is_put_together_is_the_one_that_was_not_kept(tmp_path: Path) -> None:
    """A wandering weight: the post-hoc average is near the one tracked all along, which the others are not."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Linear(8, 4)
    averages = EMA(model, (0.9,), (0.05, 0.1, 0.07, 0.15))
    for step in range(1000):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
        averages.update(step)
        if (step + 1) % 50 == 0:
            for width in (0.05, 0.1):
                path = tmp_path / f"averages/step-{step + 1:07d}-sigma-{width}.safetensors"
                path.parent.mkdir(exist_ok=True)
                save_file(averages.powers[width], path)
    assert len(snapshots(tmp_path)) == 40
    for width, near in ((0.05, 1e-4), (0.07, 0.02), (0.15, 0.05)):
        found, far = combine_snapshots(tmp_path, width)
        exact = averages.powers[width]
        error = max((found[k] - exact[k]).norm().item() / exact[k].norm().item() for k in exact)
        apart = max(
            (averages.powers[0.1][k] - exact[k]).norm().item() / exact[k].norm().item() for k in exact
        )
        assert far < near and error < near < apart, (width, far, error, apart)


@pytest.mark.slow
def test_a_run_and_the_script(tmp_path: Path, capsys: Capture) -> None:
    train = TrainConfig(
        steps=8,
        batch_size=2,
        dtype="float32",
        ema=(0.9,),
        ema_snapshots=(0.05, 0.1),
        snapshot_every=2,
        save_every=4,
    )
    run = tmp_path / "run"
    args = TrainBase(out=run, preset="tiny", train=train, validation_batches=0)
    train_base(args)
    assert [(profile.t, profile.sigma_rel) for profile in snapshots(run)] == [
        (t, s) for t in (2.0, 4.0, 6.0, 8.0) for s in (0.05, 0.1)
    ]
    kept = load_file(run / "checkpoints/step-0000008/power-0.1.safetensors")
    assert call(script, "--run", run, "--out", tmp_path / "model") == 0
    assert "average of relative width 0.1" in capsys.readouterr().out
    far = posthoc(Posthoc(run, tmp_path / "again", sigma_rel=0.1))
    model = load_model(tmp_path / "model")
    assert far < 1e-3 and model.tokenizer is not None
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, kept[name], rtol=1e-3, atol=1e-4)
    assert read_config(tmp_path / "model")["training"]["posthoc"]["sigma_rel"] == 0.1
    with pytest.raises(InputError, match=r"--ema-snapshots 0\.05: this run has 0\.05 0\.1"):
        changed = dataclasses.replace(train, ema_snapshots=(0.05,))
        train_base(dataclasses.replace(args, resume=True, train=changed))
    next(iter(snapshots(run).values())).write_bytes(b"damaged")
    with pytest.raises(InputError, match="is damaged"):
        combine_snapshots(run, 0.07)
    with pytest.raises(InputError, match="no snapshots"):
        combine_snapshots(tmp_path / "model", 0.07)
