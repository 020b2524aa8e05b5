"""The input of a stem: patches, and where they are. The two ways of text tokens into attention."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glide.diffusion.conditioning import Conditioning
from glide.networks.blocks import Attention, TokenAttention, UNetBlock
from glide.networks.config import UNetConfig
from glide.networks.cpu.prepacked import pack_
from glide.networks.deep_cache import DeepCache
from glide.networks.key_cache import with_keys
from glide.networks.layers import coordinates, patches
from glide.networks.unet import UNet
from guidance.perturbed_attention import perturbed
from support.models import randomised, tiny_unet


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


# --- cross-attention ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cross() -> UNet:
    config = replace(tiny_unet(6), token_attention="cross")
    return randomised(UNet(config, token_width=16), seed=1)  # type: ignore[arg-type,return-value]


def given(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(2, 5, 16, generator=generator)
    return torch.randn(2, 3, 8, 8, generator=generator), torch.tensor([500, 20]), Conditioning(tokens=tokens)


@torch.no_grad()
def test_a_pixel_attends_to_pixels_and_then_to_tokens(cross: UNet) -> None:
    block, (_, _, cond) = cross.middle_in, given()
    assert isinstance(block.attn, Attention) and block.attn.token_kv is None and block.cross is not None
    x, emb = torch.randn(2, 64, 4, 4), torch.randn(2, 128)
    kv = block.project_tokens(cond.tokens)
    assert kv is not None
    expected = block.cross(block.attn(block.res(x, emb)), kv)
    assert torch.equal(block(x, emb, cond.tokens), expected)


def test_joint_attention_has_the_weights_that_it_had() -> None:
    names = [[name for name, _ in UNet(c, token_width=16).named_parameters()] for c in both()]
    assert not any(".cross." in name for name in names[0])
    assert sum("cross.token_kv.weight" in name for name in names[1]) == sum(
        "attn.token_kv.weight" in name for name in names[0]
    )
    local = replace(both()[1], local=True)
    kinds = {
        type(b.attn) for b in UNet(local, token_width=16).modules() if isinstance(b, UNetBlock) and b.attn
    }
    assert kinds == {TokenAttention}
    alone = UNet(both()[1])  # without tokens there is nothing to attend to
    assert list(alone.state_dict()) == list(UNet(both()[0]).state_dict())


def both() -> tuple[UNetConfig, UNetConfig]:
    return tiny_unet(6), replace(tiny_unet(6), token_attention="cross")


@torch.no_grad()
def test_cross_attention_with_cached_keys_deep_levels_and_packed_weights(cross: UNet) -> None:
    x, t, cond = given()
    plain = cross(x, t, cond)
    assert not torch.equal(plain, cross(x, t, given(seed=1)[2]))
    keyed = with_keys(cross, cond)
    assert keyed.keys is not None
    assert torch.equal(cross(x, t, keyed), plain)
    one = torch.full((2,), 500)
    assert torch.equal(DeepCache(cross, 1)(x, one, cond), cross(x, one, cond))
    packed = pack_(randomised(UNet(cross.config, token_width=16), seed=1))  # type: ignore[arg-type]
    for _ in range(2):  # with plain weights, then in oneDNN's order
        torch.testing.assert_close(packed(x, t, cond), plain, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_perturbed_map_is_that_of_pixels_alone(cross: UNet) -> None:
    """The caption is read as before: only then are the two predictions different in structure alone."""
    x, t, cond = given()
    run = perturbed(cross, ["middle"])
    changed = run(x, t, cond)
    assert not torch.equal(changed, cross(x, t, cond))
    assert not torch.equal(changed, run(x, t, given(seed=1)[2]))
    assert list(cross.attention_layers()) == ["down.2", "middle", "up.0", "up.1"]
