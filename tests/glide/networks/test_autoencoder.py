"""Autoencoders: sizes, normalised latents, and tiles that make no difference."""

import dataclasses

import pytest
import torch

from glide.networks.autoencoder import Autoencoder, padded
from glide.networks.autoencoder_config import AUTOENCODERS, AutoencoderConfig
from glide.networks.tiles import in_exact_tiles
from glide.utils.errors import InputError


def autoencoder(**changes: object) -> Autoencoder:
    """A small one with random weights everywhere, also where training begins with zeros."""
    torch.manual_seed(0)
    config = dataclasses.replace(AutoencoderConfig(channels=8, num_res_blocks=1), **changes)
    model = Autoencoder(config)
    with torch.no_grad():
        for weight in model.parameters():
            weight.normal_(0, 0.2)
    return model.eval()


@pytest.mark.parametrize(
    ("changes", "factor"),
    [
        ({}, 4),
        ({"channel_mult": (1, 2)}, 8),
        ({"patch_size": 1, "channel_mult": (1, 1, 2)}, 4),
        ({"kl": True}, 4),
    ],
)
def test_sizes(changes, factor):
    model = autoencoder(**changes, latent_channels=5)
    assert model.factor == factor
    latents = model.encode(torch.rand(2, 3, 32, 16) * 2 - 1)
    assert latents.shape == (2, 5, 32 // factor, 16 // factor) and latents.dtype == torch.float32
    assert model.decode(latents).shape == (2, 3, 32, 16)


def test_latents_are_normalised_by_the_config():
    plain = autoencoder()
    x = torch.rand(1, 3, 16, 16) * 2 - 1
    raw = plain.encode(x)
    assert torch.equal(raw, plain.moments(x)[0])
    mean, std = (0.5, -1.0, 0.0, 2.0), (2.0, 0.5, 1.0, 4.0)
    model = autoencoder(mean=mean, std=std)
    shift, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    torch.testing.assert_close(model.encode(x) * scale + shift, raw)
    torch.testing.assert_close(model.decode(model.encode(x)), plain.decode(raw))


def test_each_picture_is_encoded_by_itself():
    model, x = autoencoder(), torch.rand(3, 3, 16, 16) * 2 - 1
    together = model.encode(x)
    for one, alone in zip(together, x, strict=True):
        assert torch.equal(one, model.encode(alone[None])[0])
    for one, latent in zip(model.decode(together), together, strict=True):
        assert torch.equal(one, model.decode(latent[None])[0])


def test_a_size_that_is_no_multiple_is_padded():
    x = torch.arange(6.0).view(1, 1, 2, 3)
    assert padded(x, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert autoencoder().encode(torch.zeros(1, 3, 30, 17)).shape[-2:] == (8, 5)


@pytest.mark.parametrize("changes", [{}, {"channel_mult": (1, 2)}, {"num_res_blocks": 2}])
def test_tiles_have_no_seams(changes):
    model = autoencoder(**changes)
    x = torch.rand(1, 3, 160, 96) * 2 - 1
    with torch.no_grad():
        whole = model.moments(x)[0]
        halo = -(-model.config.reach // model.factor) * model.factor
        tiled = in_exact_tiles(lambda part: model.moments(part)[0], x, 1 / model.factor, halo, tile=32)
        torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-5)
        decoded = in_exact_tiles(model.reconstruct, whole, model.factor, halo // model.factor, tile=32)
        torch.testing.assert_close(decoded, model.reconstruct(whole), rtol=1e-4, atol=1e-5)
        seamed = in_exact_tiles(model.reconstruct, whole, model.factor, 0, tile=32)
    assert not torch.allclose(seamed, model.reconstruct(whole), rtol=1e-3, atol=1e-3)


def test_a_latent_depends_on_what_is_within_reach():
    model = autoencoder(num_res_blocks=1)
    x = torch.zeros(1, 3, 96, 96)
    changed = x.clone()
    changed[..., 40:44, 40:44] = 1.0
    moved = (model.encode(changed) - model.encode(x)).abs().amax(dim=(0, 1)) > 0
    cells = moved.nonzero()
    reach = model.config.reach // model.factor
    assert int(cells.min()) >= 10 - reach and int(cells.max()) <= 10 + reach and len(cells) > 1


def test_bad_input():
    with pytest.raises(InputError, match="got pictures of 1 channels for an autoencoder of 3"):
        autoencoder().encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="got latents of 3 channels for an autoencoder of 4"):
        autoencoder().decode(torch.zeros(1, 3, 8, 8))
    with pytest.raises(InputError, match="got 1 means and 2 deviations for 4 latent channels"):
        AutoencoderConfig(mean=(0.0,), std=(1.0, 1.0)).check()
    with pytest.raises(InputError, match=r"channel_mult 0\.1 of 2 channels leaves none"):
        AutoencoderConfig(channels=2, channel_mult=(0.1,)).check()


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_presets_can_be_built(name):
    AUTOENCODERS[name].check()
    assert AutoencoderConfig.from_dict(AUTOENCODERS[name].to_dict()) == AUTOENCODERS[name]
