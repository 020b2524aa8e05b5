"""What a stem sees: patches, and where they are."""

import math

import pytest
import torch
import torch.nn.functional as F

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import UNetConfig
from glide.networks.layers import coordinates, patches
from glide.networks.unet import UNet
from support.models import randomised


@pytest.mark.parametrize("size", [1, 2, 4])
def test_patches_are_pixel_unshuffles(size: int) -> None:
    x = torch.randn(2, 3, 8, 4 * size)
    for picture in (x, x.contiguous(memory_format=torch.channels_last)):
        cells = patches(picture, size, picture.dtype).permute(0, 3, 1, 2)
        assert torch.equal(cells, F.pixel_unshuffle(x, size))
        assert size == 1 or cells.is_contiguous(memory_format=torch.channels_last)


def test_coordinates_are_the_waves_they_say() -> None:
    planes = coordinates(2, 4, 2, torch.device("cpu")).permute(2, 0, 1)
    assert planes.shape == (8, 2, 4)
    x = torch.tensor([-0.75, -0.25, 0.25, 0.75]).expand(2, -1)
    y = torch.tensor([-0.5, 0.5])[:, None].expand(-1, 4)
    for first, u in ((0, x), (4, y)):
        waves = [f(math.pi / 2 * k * u) for f in (torch.sin, torch.cos) for k in (1, 2)]
        torch.testing.assert_close(planes[first : first + 4], torch.stack(waves))


@torch.no_grad()
def test_a_network_with_coordinates_knows_places_far_from_the_edges() -> None:
    """Without, cells that the padding does not reach are all alike to it."""
    small = UNetConfig(48, 3, 3, 8, (1,), 1, (), head_channels=8, patch_size=2)
    x, t = torch.ones(1, 3, 48, 48), torch.tensor([500])
    spreads = []
    for octaves in (0, 3):
        config = UNetConfig(**{**vars(small), "coordinates": octaves})
        inside = randomised(UNet(config), seed=1)(x, t, Conditioning())[:, :, 22:26:2, 22:26:2]
        spreads.append(float(inside.std(dim=(2, 3)).max()))
    assert spreads[0] < 1e-3 < 1e-1 < spreads[1]
