"""The objective of an autoencoder, against closed forms."""

import math

import pytest
import torch

from glide.networks.autoencoder import Autoencoder
from glide.networks.autoencoder_config import AutoencoderConfig
from glide.training.reconstruction import (
    NOISE_LEVELS,
    Reconstruction,
    gradient_error,
    kl_divergence,
    latent_statistics,
    noised,
    perceptual_error,
)
from glide.training.reconstruction_config import ReconstructionConfig
from glide.training.row_rng import RowRng


def test_gradients_of_a_ramp():
    x = torch.zeros(1, 3, 16, 16)
    y = torch.arange(16.0).expand(1, 3, 16, 16)
    # across, neighbours differ by 1, 2 and 4 at the three scales; down by nothing
    assert gradient_error(x, y).item() == pytest.approx((1 + 2 + 4) / 6)


def test_kl_is_that_of_gaussians():
    mean, log_variance = torch.full((2, 4, 3, 3), 0.5), torch.full((2, 4, 3, 3), math.log(4.0))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(0.5, 2.0), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected.expand(2))


def test_noise_is_in_proportion_to_the_latents():
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0.0, 0.3])
    small = noised(latents, level, RowRng(0, range(2))) - latents
    large = noised(100 * latents, level, RowRng(0, range(2))) - 100 * latents
    torch.testing.assert_close(large, 100 * small, rtol=1e-3, atol=1e-3)
    assert not small[0].any() and small[1].std().item() == pytest.approx(
        0.3 * latents[1].std().item(), rel=0.05
    )


def test_unit_features_have_no_size():
    features = lambda x: [x, x.flip(1)]
    x = torch.rand(2, 3, 4, 4) + 0.1
    assert perceptual_error(features, x, 3 * x).max() < 1e-6
    assert perceptual_error(features, x, -x).tolist() == pytest.approx([4.0, 4.0])


def small(**changes):
    torch.manual_seed(0)
    return Autoencoder(AutoencoderConfig(channels=8, num_res_blocks=1, **changes))


@pytest.mark.parametrize("kl", [False, True])
def test_rows_do_not_depend_on_the_batch(kl):
    model, x = small(kl=kl), torch.rand(4, 3, 16, 16) * 2 - 1
    task = Reconstruction(ReconstructionConfig(l2=1.0, kl=0.1, latent_noise=0.1, equivariance=0.5))
    t = torch.tensor([0, 10, 500, NOISE_LEVELS - 1])
    whole = task(model, {"image": x}, t, RowRng(1, range(4)))
    parts = [task(model, {"image": x[i : i + 2]}, t[i : i + 2], RowRng(1, range(i, i + 2))) for i in (0, 2)]
    assert ("kl" in whole) == kl
    for name, values in whole.items():
        torch.testing.assert_close(values, torch.cat([part[name] for part in parts]), rtol=1e-4, atol=1e-5)
    expected = whole["l1"] + whole["gradients"] + 4 / 10 ** (whole["psnr"] / 10) + 0.5 * whole["equivariance"]
    if kl:
        expected = expected + 0.1 * whole["kl"]
    torch.testing.assert_close(whole["loss"], expected)


def test_statistics_of_latents():
    model = small()
    parts = [torch.rand(3, 3, 16, 16) * 2 - 1, torch.rand(1, 3, 16, 16)]
    mean, std = latent_statistics(model, parts)
    latents = torch.cat([model.moments(part)[0] for part in parts]).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.tensor(mean), latents.mean(dim=1))
    torch.testing.assert_close(torch.tensor(std), latents.std(dim=1, correction=0))
