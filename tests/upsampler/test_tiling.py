"""Tiles: they cover, they overlap, and a network that sees no whole gives the same in tiles as at once."""

import dataclasses
import itertools

import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Predictor
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.ddpm_ddim import ddim
from glide.networks.config import ModelConfig, ProcessConfig, UNetConfig
from glide.networks.model import Model
from support.models import randomised
from upsampler.tiling import in_tiles, tile_starts, tile_weights

# each output pixel sees 12 pixels to each side: 1 of the stem, 2 of each of 5 blocks, 1 of the head
LOCAL = UNetConfig(64, 3, 3, 32, (1,), 1, (), head_channels=32, resblock_updown=False, local=True)
SEES = 12


def model(unet: UNetConfig = LOCAL, **config: object) -> Model:
    process = ProcessConfig(steps=50, prediction="x0", variance="fixed_small")
    return randomised(Model(ModelConfig(unet, process=process, **config)), seed=0)  # type: ignore[arg-type]


def plain(model: Model):
    return lambda x, t, cond: model.unet(x, t, cond)


@pytest.mark.parametrize(
    "tile, overlap, factor", [(64, 16, 8), (256, 64, 8), (256, 64, 32), (64, 0, 4), (8, 7, 4)]
)
def test_tiles_cover_evenly_and_overlap(tile, overlap, factor):
    for length in range(factor, 8 * tile, factor):
        begin = tile_starts(length, tile, overlap, factor)
        assert begin[0] == 0 and all(start % factor == 0 for start in begin)
        if length <= tile:
            assert begin == [0]
            continue
        assert begin[-1] + tile == length
        shared = [a + tile - b for a, b in itertools.pairwise(begin)]
        assert min(shared) >= min(overlap, tile - factor)
        assert max(shared) - min(shared) <= factor  # evenly


def test_weights_fall_towards_neighbours_only():
    assert torch.equal(tile_weights(8, 4, False, False), torch.ones(8))
    rise = tile_weights(64, 32, True, False)
    assert torch.equal(tile_weights(64, 32, False, True), rise.flip(0))
    assert rise[:8].max() == 0 and rise[24:].min() == 1 and bool((rise.diff() >= 0).all())
    # where two tiles share exactly the overlap, their weights add up to 1
    torch.testing.assert_close(rise[:32] + rise.flip(0)[32:], torch.ones(32))
    assert torch.equal(tile_weights(8, 0, True, True), torch.ones(8))


@pytest.mark.slow
@torch.no_grad()
def test_a_local_network_gives_the_same_in_tiles():
    """Exactly what it gives at once, to rounding, where tiles overlap by what a pixel sees."""
    net = model(low_res=True)
    x = torch.randn(2, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    cond = Conditioning(planes=torch.randn(x.shape, generator=torch.Generator().manual_seed(2)))
    t = torch.tensor([3, 40])
    whole = net.unet(x, t, cond)
    tiled = in_tiles(plain(net), net, tile=64, overlap=4 * SEES / 64)
    torch.testing.assert_close(tiled(x, t, cond), whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_crop_does_not_depend_on_the_rest():
    """A crop's inner pixels are the whole's: trained on crops, sampled at any size. With ADM's norms it is not so."""
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    t, inner = torch.tensor([7]), slice(SEES, -SEES)
    errors = []
    for unet in (LOCAL, dataclasses.replace(LOCAL, local=False, attention=(1,))):
        net = model(unet)
        part = net.unet(x[..., 16:56, 8:48], t, Conditioning())[..., inner, inner]
        whole = net.unet(x, t, Conditioning())[..., 16:56, 8:48][..., inner, inner]
        errors.append(float((part - whole).abs().max() / whole.std()))
    assert errors[0] < 1e-5 and errors[1] > 1e-2


def test_small_pictures_are_left_alone():
    net = model()
    seen: list[tuple[int, ...]] = []

    def network(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        seen.append(tuple(x.shape))
        return x

    tiled = in_tiles(network, net)
    x = torch.randn(1, 3, 40, 64)
    assert tiled(x, torch.tensor([0]), Conditioning()) is x
    tiled(torch.randn(1, 3, 40, 65), torch.tensor([0]), Conditioning())
    assert seen == [(1, 3, 40, 64), *[(1, 3, 40, 64)] * 2]


@torch.no_grad()
def test_no_seams_are_left_of_a_network_that_draws_them():
    """Each tile's answer is off by a constant of its own: after blending no step between pixels is near that large."""
    net, size = model(), (160, 160)
    level = iter(range(1000))

    def network(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        return torch.full_like(x, next(level) % 2)

    blended = in_tiles(network, net)(torch.zeros(1, 3, *size), torch.tensor([0]), Conditioning())
    steps = max(float(blended.diff(dim=dim).abs().max()) for dim in (2, 3))
    assert blended.min() == 0 and blended.max() == 1
    assert steps <= 1 / (16 * (1 - 2 * 0.25)) + 1e-5  # the ramp's own slope over an overlap of 16 pixels


@pytest.mark.slow
@torch.no_grad()
def test_sampling_in_tiles_is_sampling_at_once():
    """Through a whole DDIM run: one noise, one x_t, several calls a step."""
    net = model(low_res=True)
    low_res = torch.randn(1, 3, 16, 40, generator=torch.Generator().manual_seed(4))
    cond = net.condition({"low_res": low_res}, (64, 160))
    results = []
    for network in (plain(net), in_tiles(plain(net), net, overlap=4 * SEES / 64)):
        predict = Predictor(network, net.process, "x0")
        x = SeededNoise([5]).randn((3, 64, 160))
        *_, last = ddim(net.process.respaced([0, 20, 49]), lambda x, t: predict(x, t, [cond])[0], x)
        results.append(last)
    torch.testing.assert_close(results[1], results[0], rtol=1e-3, atol=1e-3)
