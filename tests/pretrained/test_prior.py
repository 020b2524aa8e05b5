"""The embedded prior of the built-in scenes: drawn embeddings are near those of the captions' own pictures."""

import pytest
import torch
import torch.nn.functional as F

from glide.checkpoints.image_encoders import find_image_encoder
from glide.checkpoints.names import EMBEDDED
from glide.checkpoints.priors import load_prior
from glide.shapes.dataset import held_out_scenes, render
from glide.utils.images import from_uint8
from toolkit.pipelines.prior import sample_embeddings


@pytest.mark.slow
def test_drawn_embeddings_are_near_the_true_ones() -> None:
    prior = load_prior("shapes-prior")
    encoder = find_image_encoder(prior.config.image_encoder)
    scenes = held_out_scenes(24)
    true = encoder.encode(from_uint8(torch.from_numpy(render(scenes, encoder.size))))
    drawn = sample_embeddings(prior, [scene.caption for scene in scenes], range(24), steps=8)
    own = F.cosine_similarity(drawn, true)
    unrelated = F.cosine_similarity(drawn, true.roll(1, dims=0))
    # 0.87 and 0.19 over 300 captions (docs/results.md)
    assert own.mean() > 0.8 and unrelated.mean() < 0.35
    torch.testing.assert_close(drawn.norm(dim=1), torch.ones(24))


def test_it_is_small() -> None:
    assert (EMBEDDED / "shapes-prior" / "model.safetensors").stat().st_size <= 4 * 2**20
