"""The noisy CLIP as an image encoder: its own embedding at t = 0, and the activations of both kinds of towers."""

from pathlib import Path

import pytest
import torch

from glide.networks.config import FirstStageConfig, UNetConfig
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance.clip.image_encoder import NoisyClipImages, load
from guidance.clip.load import save_clip
from support.clip_nets import X, tiny_clip

TRUNK = UNetConfig(
    image_size=8,
    out_channels=3,
    channels=8,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention=(2,),
    head_channels=4,
)


@pytest.mark.parametrize("trunk", [None, TRUNK])
def test_embeddings_are_those_of_clean_pictures(
    text_model: Model, trunk: UNetConfig | None, tmp_path: Path
) -> None:
    clip = tiny_clip(text_model, trunk=trunk)
    save_clip(tmp_path / "clip", clip)
    encoder, x = load(str(tmp_path / "clip")), X.clamp(-1, 1)
    assert torch.equal(encoder.encode(x), clip.encode_image(x, torch.zeros(4, dtype=torch.int64)))
    assert encoder.fingerprint == NoisyClipImages(clip).fingerprint


@pytest.mark.parametrize("trunk", [None, TRUNK])
def test_feature_maps_lead_to_the_embedding(text_model: Model, trunk: UNetConfig | None) -> None:
    clip = tiny_clip(text_model, trunk=trunk)
    encoder, x = NoisyClipImages(clip), X.clone().requires_grad_()
    maps, t = encoder.features(x), torch.zeros(4, dtype=torch.int64)
    tower = clip.image
    if trunk is None:
        rows = maps[-1].flatten(2).mT  # [N,h*w,D]
        token = tower.hidden(x, t)[-1][:, :1]
        torch.testing.assert_close(tower.head(tower.norm(torch.cat([token, rows], 1)).mean(1)), tower(x, t))
    else:
        assert [h.shape[-1] for h in maps] == [8, 4]
        torch.testing.assert_close(tower.pool(tower.norm(maps[-1], silu=True)), tower(x, t))
    maps[-1].square().sum().backward()
    assert x.grad is not None and x.grad.abs().amax(dim=(1, 2, 3)).min() > 0


def test_a_clip_of_latents_has_no_feature_maps(text_model: Model) -> None:
    clip = tiny_clip(text_model, first_stage=FirstStageConfig())
    with pytest.raises(InputError, match="got a noisy CLIP of latents for feature maps, expected one of pix"):
        NoisyClipImages(clip).features(torch.zeros(1, 3, 32, 32))
