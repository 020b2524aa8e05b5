"""The prior: its space, its inputs, its objective and its folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glide.checkpoints.load import load_model
from glide.checkpoints.priors import load_prior, save_prior
from glide.networks.image_encoder import PretrainedImages
from glide.networks.prior_config import PRIORS, PriorConfig
from glide.training.prior_objective import PriorObjective, embedding_statistics
from glide.training.row_rng import RowRng
from glide.utils.config_check import checked
from glide.utils.errors import InputError
from support.models import CAPTIONS
from support.priors import MEAN, STD, WIDTH, tiny_prior


class Corners(PretrainedImages):
    """The first numbers of a picture of 2x2 pixels."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(1, 1), width=WIDTH, size=2, fingerprint="0" * 16)

    def _embed(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :WIDTH]

    def _maps(self, x: Tensor) -> list[Tensor]:
        return [x]


def pictures(n: int) -> Tensor:
    return torch.rand(n, 3, 2, 2, generator=torch.Generator().manual_seed(3)) * 2 - 1


def test_embeddings_are_normalised_and_back() -> None:
    prior = tiny_prior()
    z = torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(0))
    x0 = prior.normalise(z)
    assert x0.shape == (5, WIDTH, 1, 1)
    torch.testing.assert_close(x0.flatten(1), (z - torch.tensor(MEAN)) / torch.tensor(STD))
    torch.testing.assert_close(prior.embeddings(x0), z)
    torch.testing.assert_close(tiny_prior(unit=True).embeddings(x0), F.normalize(z, dim=1))


def test_every_input_reaches_the_prediction() -> None:
    prior = tiny_prior()
    x, t = torch.randn(2, WIDTH, 1, 1, generator=torch.Generator().manual_seed(0)), torch.tensor([3, 60])
    batch = prior.caption_batch(CAPTIONS[:2])
    cond = prior.encode(batch)
    assert cond.tokens is not None and cond.vector is not None
    found = prior(x, t, batch)
    others = {
        "x": prior(x + 1, t, batch),
        "t": prior(x, t + 20, batch),
        "tokens": prior.predict(x, t, replace(cond, tokens=cond.tokens + 1)),
        "vector": prior.predict(x, t, replace(cond, vector=cond.vector + 1)),
    }
    for name, other in others.items():
        assert (other - found).abs().amax(dim=(1, 2, 3)).min() > 1e-3, name
    # rows do not see each other
    alone = prior(x[:1], t[:1], {name: part[:1] for name, part in batch.items()})
    torch.testing.assert_close(alone, found[:1], rtol=1e-5, atol=1e-6)


def test_the_objective_is_the_error_of_normalised_embeddings() -> None:
    prior, n = tiny_prior(), 4
    batch = {"image": pictures(n), "caption": [*CAPTIONS, CAPTIONS[0]]}
    t = torch.tensor([0, 30, 70, 99])
    task = PriorObjective(Corners(), null_captions=0.5)
    found = task(prior, batch, t, RowRng(5, range(n)))
    draws = RowRng(5, range(n))
    z = batch["image"].flatten(1)[:, :WIDTH]  # type: ignore[attr-defined]
    x0 = (z - torch.tensor(MEAN)) / torch.tensor(STD)
    noise = draws.normal(x0[:, :, None, None])
    dropped = draws.uniform() < 0.5
    assert 0 < int(dropped.sum()) < n
    alpha_bar = torch.from_numpy(prior.process.alpha_bar)[t].float()[:, None]
    x_t = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise.flatten(1)
    captions = ["" if drop else caption for caption, drop in zip(batch["caption"], dropped, strict=True)]
    predicted = prior(x_t[:, :, None, None], t, prior.caption_batch(captions)).flatten(1)
    torch.testing.assert_close(found["loss"], (predicted - x0).square().mean(dim=1), rtol=1e-4, atol=1e-5)
    back = predicted * torch.tensor(STD) + torch.tensor(MEAN)
    torch.testing.assert_close(found["cosine"], F.cosine_similarity(back, z, dim=1), rtol=1e-4, atol=1e-5)
    # any split of the batch trains on the same
    parts = [
        task(
            prior,
            {"image": batch["image"][i : i + 2], "caption": batch["caption"][i : i + 2]},
            t[i : i + 2],
            RowRng(5, range(i, i + 2)),
        )
        for i in (0, 2)
    ]
    for name, values in found.items():
        torch.testing.assert_close(torch.cat([part[name] for part in parts]), values, rtol=1e-4, atol=1e-5)


def test_statistics_are_those_of_the_embeddings() -> None:
    images = pictures(50)
    images[:, 0, 0, 0] = 0.25  # never changes
    z = images.flatten(1)[:, :WIDTH]
    mean, std, unit = embedding_statistics(Corners(), images.split(20))
    torch.testing.assert_close(torch.tensor(mean), z.mean(dim=0))
    torch.testing.assert_close(torch.tensor(std)[1:], z[:, 1:].std(dim=0, unbiased=False))
    assert std[0] == 1.0 and not unit


def test_a_prior_is_saved_and_loaded(tmp_path: Path) -> None:
    prior = tiny_prior()
    save_prior(tmp_path / "prior", prior, training={"step": 1})
    again = load_prior(tmp_path / "prior")
    assert again.config == prior.config
    x, t = torch.randn(1, WIDTH, 1, 1), torch.tensor([40])
    batch = again.caption_batch(CAPTIONS[:1])
    assert torch.equal(again(x, t, batch), prior(x, t, batch))
    z = torch.randn(2, WIDTH)
    assert torch.equal(again.normalise(z), prior.normalise(z))
    with pytest.raises(InputError, match="holds a prior model, expected a diffusion model: give another"):
        load_model(tmp_path / "prior")
    with pytest.raises(InputError, match="holds a diffusion model, expected a prior model: give another"):
        load_prior("shapes")
    record = json.loads((tmp_path / "prior" / "config.json").read_text())
    record["model"]["mean"] = [0.0]
    (tmp_path / "prior" / "config.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match="got 1 means and 6 deviations for embeddings of 6 numbers"):
        load_prior(tmp_path / "prior")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 15}, "got prior.width 15, expected a multiple of prior.heads 2"),
        ({"mean": (0.0,), "std": (1.0,)}, "got 1 means and 1 deviations for embeddings of 6 numbers"),
        ({"std": (0.0,) * WIDTH}, "std"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        checked(replace(tiny_prior().config, **changes), "prior")


def test_known_sizes_are_sound() -> None:
    for config in PRIORS.values():
        assert PriorConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
