"""Embeddings drawn by a prior: against a loop written out, and the same whatever is drawn beside them."""

import math

import pytest
import torch

from glide.networks.prior import Prior
from glide.utils.errors import InputError
from support.models import CAPTIONS
from support.priors import WIDTH, tiny_prior
from toolkit.pipelines.prior import sample_embeddings

STEPS, SEED, SCALE = 5, 7, 2.5


@pytest.fixture(scope="module")
def prior() -> Prior:
    return tiny_prior()


@torch.no_grad()
def by_hand(prior: Prior, caption: str, scale: float) -> torch.Tensor:
    """DDIM (2010.02502, eq. 12) with classifier-free guidance (2207.12598, eq. 6)."""
    kept = [round(i * 99 / (STEPS - 1)) for i in range(STEPS)]
    x = torch.randn(WIDTH, 1, 1, generator=torch.Generator().manual_seed(SEED))[None]
    for i in reversed(range(STEPS)):
        t = torch.tensor([kept[i]])
        with_caption = prior(x, t, prior.caption_batch([caption]))
        without = prior(x, t, prior.caption_batch([""]))
        x0 = without + scale * (with_caption - without)
        a = float(prior.process.alpha_bar[kept[i]])
        before = float(prior.process.alpha_bar[kept[i - 1]]) if i else 1.0
        eps = (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
        x = math.sqrt(before) * x0 + math.sqrt(1 - before) * eps
    return prior.embeddings(x)


@pytest.mark.parametrize("scale", [1.0, SCALE])
def test_the_loop_is_that_of_the_papers(prior: Prior, scale: float) -> None:
    found = sample_embeddings(prior, CAPTIONS[:1], [SEED], STEPS, scale, "ddim")
    torch.testing.assert_close(found, by_hand(prior, CAPTIONS[0], scale), rtol=1e-4, atol=1e-4)


def test_an_embedding_does_not_depend_on_those_beside_it(prior: Prior) -> None:
    together = sample_embeddings(prior, CAPTIONS, [4, 5, 6], STEPS, SCALE)
    assert together.shape == (3, WIDTH)
    for i, caption in enumerate(CAPTIONS):
        assert torch.equal(sample_embeddings(prior, [caption], [4 + i], STEPS, SCALE)[0], together[i])
    assert not torch.equal(sample_embeddings(prior, CAPTIONS[:1], [5], STEPS, SCALE)[0], together[0])
    assert sample_embeddings(prior, [], []).shape == (0, WIDTH)


def test_bad_input(prior: Prior) -> None:
    with pytest.raises(InputError, match="got 1 captions and 2 seeds, expected one seed for each caption"):
        sample_embeddings(prior, CAPTIONS[:1], [0, 1])
    with pytest.raises(InputError, match="got 101 steps, expected 1 to 100"):
        sample_embeddings(prior, CAPTIONS[:1], [0], steps=101)
    with pytest.raises(InputError, match="got scale -1"):
        sample_embeddings(prior, CAPTIONS[:1], [0], scale=-1.0)
    with pytest.raises(InputError, match="got the sampler 'nothing'"):
        sample_embeddings(prior, CAPTIONS[:1], [0], sampler="nothing")
