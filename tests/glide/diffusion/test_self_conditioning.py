"""Self-conditioning: what the network is shown in training and in sampling, and that it begins as what it was."""

import dataclasses
from pathlib import Path

import pytest
import torch

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model
from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction
from glide.diffusion.loss_config import LossConfig
from glide.diffusion.self_conditioning import SelfConditioned
from glide.networks.model import Model
from glide.training.config import TrainConfig
from glide.training.objectives import DiffusionObjective, estimate_of
from glide.training.row_rng import RowRng
from glide.training.train_base import train_base
from glide.training.train_base_flags import TrainBase
from support.models import CAPTIONS, randomised
from toolkit.pipelines.pipeline import Pipeline


def conditioned(model: Model) -> Model:
    unet = dataclasses.replace(model.config.unet, self_condition=True)
    return Model(dataclasses.replace(model.config, unet=unet), model.tokenizer)


@pytest.mark.slow
def test_begun_with_another_models_weights_it_is_that_model(text_model: Model) -> None:
    model = conditioned(text_model)
    assert init_from(model, text_model) == []
    batch = model.caption_batch(CAPTIONS[:2])
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([3, 70])
    expected = text_model(x, t, batch)
    for estimate in ({}, {"estimate": torch.randn(2, 3, 8, 8)}):
        torch.testing.assert_close(model.eval()(x, t, {**batch, **estimate}), expected, rtol=1e-4, atol=1e-4)


def test_half_of_the_examples_are_shown_the_models_own_estimate(text_model: Model) -> None:
    model = randomised(conditioned(text_model), seed=4)
    seen: list[dict[str, torch.Tensor]] = []
    forward = model.forward

    def spy(x: torch.Tensor, t: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        seen.append(dict(batch) | {"x": x, "grad": torch.tensor(torch.is_grad_enabled())})
        return forward(x, t, batch)

    model.forward = spy  # type: ignore[method-assign, assignment]
    n = 40
    batch = {"image": torch.rand(n, 3, 8, 8), "caption": [CAPTIONS[0]] * n}
    t = torch.arange(n)
    DiffusionObjective(LossConfig(), null_captions=0.0)(model, batch, t, RowRng(0, range(n)))
    first, second = seen
    assert "estimate" not in first and not first["grad"] and second["grad"]
    shown = second["estimate"].flatten(1).any(dim=1)
    assert 10 < int(shown.sum()) < 30 and second["estimate"].abs().max() <= 1.0
    own = estimate_of(model, second["x"], t, {k: first[k] for k in ("tokens", "mask")})
    torch.testing.assert_close(second["estimate"][shown], own[shown])


def test_sampling_shows_the_last_estimate() -> None:
    told: list[Conditioning] = []

    def predict(x: torch.Tensor, t: int, conds: list[Conditioning]) -> list[Prediction]:
        told.extend(conds)
        return [Prediction(torch.full_like(x, 5.0 * (i - 0.5)), None) for i, _ in enumerate(conds)]

    one = SelfConditioned(predict)  # type: ignore[arg-type]
    x = torch.zeros(3, 3, 4, 4)
    for t in (9, 8):
        one(x, t, [Conditioning(vector=torch.zeros(1, 2)), Conditioning(vector=torch.ones(3, 2))])
    estimates = [cond.estimate for cond in told]
    assert all(cond.rows == 3 for cond in told)
    assert [float(e.mean()) for e in estimates if e is not None] == [
        0.0,
        0.0,
        -1.0,
        -1.0,
    ]  # the first one's, clamped


@pytest.mark.slow
def test_a_run_and_its_pictures(tmp_path: Path) -> None:
    train = TrainConfig(steps=2, batch_size=2, dtype="float32", save_every=2, sample_every=9)
    train_base(TrainBase(out=tmp_path / "run", preset="tiny", self_condition=True, train=train))
    model = load_model(tmp_path / "run")
    assert model.config.unet.self_condition
    randomised(model, seed=5)
    pipe = Pipeline(model)
    pictures = [
        pipe("a red circle", num_inference_steps=3, seed=5, guidance_scale=s).tensors for s in (1.0, 3.0)
    ]
    assert not torch.equal(*pictures) and all(p.isfinite().all() for p in pictures)
    # a new run begins without the last one's estimate
    assert torch.equal(
        pictures[0], pipe("a red circle", num_inference_steps=3, seed=5, guidance_scale=1.0).tensors
    )
