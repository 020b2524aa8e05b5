"""Weights in oneDNN's order: the same but for the rounding of a sum, and the same at each call, bit for bit."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import UNetConfig
from glide.networks.cpu import prepacked
from glide.networks.cpu.dispatch import conv_add
from glide.networks.cpu.prepacked import PackedConv2d, PackedLinear, pack_
from glide.networks.model import Model
from glide.networks.reduced_precision import lower_
from glide.networks.unet import UNet
from support.models import CAPTIONS, randomised
from toolkit import Pipeline

SMALL = UNetConfig(16, 3, 3, 32, (1, 2), 1, (2,), head_channels=16, resblock_updown=False)
BOTH = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])


@pytest.fixture
def plain(dtype: torch.dtype) -> Iterator[UNet]:
    if not prepacked._onednn_has(dtype):
        pytest.skip(f"no oneDNN for {dtype} here")
    unet = randomised(UNet(SMALL, token_width=8), seed=1).eval().requires_grad_(False)
    yield lower_(unet.to(memory_format=torch.channels_last), dtype)  # type: ignore[call-overload]


def given(rows: int, side: int) -> tuple[Tensor, Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(rows + side)
    x = torch.randn(rows, 3, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
    return x, torch.full((rows,), 500), Conditioning(tokens=torch.randn(rows, 4, 8, generator=generator))


def layers(network: nn.Module, kind: type) -> list[nn.Module]:
    return [layer for layer in network.modules() if type(layer) is kind]


@pytest.mark.slow
@BOTH
def test_a_packed_network_says_the_same(plain: UNet, dtype: torch.dtype) -> None:
    """In its first call, in those after it, and where another shape comes between them."""
    unet = pack_(copy.deepcopy(plain))
    assert not layers(unet, nn.Conv2d) and layers(unet, PackedConv2d)
    assert bool(layers(unet, PackedLinear)) == (dtype == torch.bfloat16)
    shapes = [(2, 16), (2, 16), (2, 16), (4, 16), (4, 16), (1, 32), (2, 16), (2, 16)]
    first: dict[tuple[int, int], Tensor] = {}
    with torch.no_grad():
        for shape in shapes:
            found, wanted = unet(*given(*shape)), plain(*given(*shape))
            assert torch.equal(found, first.setdefault(shape, found))
            close = 1e-6 if dtype == torch.float32 else 1e-2
            assert (found - wanted).norm() < close * wanted.norm()


def test_projections_are_packed_in_float32_where_they_are_large() -> None:
    if not prepacked._onednn_has(torch.float32):
        pytest.skip("no oneDNN for float32 here")
    network = nn.Sequential(nn.Linear(128, 384), nn.Linear(384, 64)).requires_grad_(False)
    x = torch.randn(40, 128, generator=torch.Generator().manual_seed(0))
    packed = pack_(copy.deepcopy(network))
    assert [type(layer) for layer in packed] == [PackedLinear, nn.Linear]
    torch.testing.assert_close(packed(x), network(x), atol=1e-5, rtol=1e-5)


@BOTH
@pytest.mark.parametrize("onto", [False, True])
def test_a_convolution_adds(dtype: torch.dtype, onto: bool) -> None:
    if not prepacked._onednn_has(dtype):
        pytest.skip(f"no oneDNN for {dtype} here")
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 16, 8, 8, generator=generator).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    conv = nn.Conv2d(16, 16, 3, padding=1, dtype=dtype).requires_grad_(False)
    layer = PackedConv2d(conv)
    exact = y.double() + nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    with torch.no_grad():
        results = []
        for _ in range(3):  # by plain weights, then by those in order
            into = y.clone(memory_format=torch.channels_last)
            results.append(conv_add(layer, x, into, onto))
            assert (results[-1].data_ptr() == into.data_ptr()) == onto and torch.equal(into, y) != onto
            layer.reorder()
    assert torch.equal(results[0], results[1]) and torch.equal(results[1], results[2])
    once = torch.finfo(dtype).eps / 2 * exact.abs()  # rounded, and not before the sum
    assert ((results[0].double() - exact).abs() <= once + 1e-5).all()


@BOTH
def test_the_gradient_of_a_sum(dtype: torch.dtype) -> None:
    """Of both summands, or of one of them alone."""
    if not prepacked._onednn_has(dtype):
        pytest.skip(f"no oneDNN for {dtype} here")
    generator = torch.Generator().manual_seed(0)
    x, y, g = torch.randn(3, 2, 16, 8, 8, generator=generator).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, 3, padding=1, dtype=dtype).requires_grad_(False)
    for turns, of_x, of_y in (
        (True, True, True),
        (True, False, True),
        (True, True, False),
        (False, True, True),
    ):
        plain = (
            conv if turns else nn.Conv2d(16, 16, 3, padding=1, groups=2, dtype=dtype).requires_grad_(False)
        )
        layer = PackedConv2d(plain)
        assert layer.has_backward_layer == turns
        a, b = x.clone().requires_grad_(of_x), y.clone().requires_grad_(of_y)
        leaves = [leaf for leaf, asked in ((a, of_x), (b, of_y)) if asked]
        found, wanted = conv_add(layer, a, b, overwrite=True), b + plain(a)
        close = {"rtol": 0, "atol": 1e-5 if dtype == torch.float32 else 3e-2}
        torch.testing.assert_close(found, wanted, **close)
        assert torch.equal(b, y)  # autograd may still want it
        gradients = (torch.autograd.grad(result, leaves, g) for result in (found, wanted))
        for ours, theirs in zip(*gradients, strict=True):
            torch.testing.assert_close(ours, theirs, **close)


@BOTH
def test_weights_are_laid_out_once_and_the_same(plain: UNet, dtype: torch.dtype) -> None:
    unet = pack_(copy.deepcopy(plain))
    convolutions = layers(unet, PackedConv2d)
    assert not any(layer.weight.is_mkldnn for layer in convolutions)
    with torch.inference_mode():
        unet(*given(2, 16))
    before = [layer.weight for layer in convolutions]
    assert all(weight.is_mkldnn for weight in before)
    with torch.no_grad():
        unet(*given(2, 16))
        assert all(now.weight is weight for now, weight in zip(convolutions, before, strict=True))
        unet(*given(1, 16))
        assert not any(now.weight is weight for now, weight in zip(convolutions, before, strict=True))
        unet(*given(2, 16))  # of a small network both orders are kept
        kept = [layer._layouts for layer in convolutions]
        both = [list(orders.values()) for orders in kept]
        assert all(first is weight for (first, _), weight in zip(both, before, strict=True))
        unet(*given(4, 16))
        assert [next(iter(orders.values())) for orders in kept] == [second for _, second in both]
        assert all(len(orders) == 2 for orders in kept)
    for layer, source in zip(convolutions, layers(plain, nn.Conv2d), strict=True):
        assert torch.equal(layer.weight.to_dense(), source.weight)


def test_a_large_network_keeps_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    if not prepacked._onednn_has(torch.float32):
        pytest.skip("no oneDNN here")
    monkeypatch.setattr(prepacked, "SMALL_NETWORK", 0)
    net = pack_(nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))).requires_grad_(False)
    with torch.no_grad():
        for rows in (1, 2, 1):
            net(torch.zeros(rows, 16, 8, 8))
    assert list(net[0]._layouts) == [torch.Size([1, 16, 8, 8])]


@pytest.mark.slow
@BOTH
def test_a_gradient_goes_through_a_packed_network(plain: UNet, dtype: torch.dtype) -> None:
    """Also after it has drawn, in inference mode; its weights on the way back, too, are laid out once."""
    unet = pack_(copy.deepcopy(plain))
    x, t, cond = given(2, 16)
    with torch.inference_mode():
        unet(x, t, cond)
        unet(x, t, cond)

    def gradient(network: UNet) -> Tensor:
        leaf = x.detach().clone().requires_grad_()
        return torch.autograd.grad(network(leaf, t, cond).square().sum(), leaf)[0]

    wanted = gradient(plain)
    assert wanted.abs().max() > 0
    exact = gradient(copy.deepcopy(plain).float())  # of the same weights
    for _ in range(3):
        if dtype == torch.float32:
            torch.testing.assert_close(gradient(unet), wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))
        else:  # neither is always the nearer one: they round at different places
            ours, theirs = (gradient(unet) - exact).norm(), (wanted - exact).norm()
            assert ours < 1.1 * theirs and theirs < 2e-2 * exact.norm()
    backs = [layer.backward_layer for layer in layers(unet, PackedConv2d) if layer.stride == (1, 1)]
    before = [back.weight for back in backs]
    assert before and all(weight.is_mkldnn for weight in before)
    assert torch.equal(gradient(unet), gradient(unet))
    assert all(back.weight is weight for back, weight in zip(backs, before, strict=True))
    assert not any("backward_layer" in name for name, _ in unet.named_modules())  # no weights of the network


def test_strides_groups_and_missing_biases_are_kept() -> None:
    if not prepacked._onednn_has(torch.float32):
        pytest.skip("no oneDNN here")
    generator = torch.Generator().manual_seed(0)
    for conv in (
        nn.Conv2d(16, 32, 3, stride=2, padding=1, groups=2),
        nn.Conv2d(
            16, 32, 3, stride=2, padding=1
        ),  # of the input's last row and column the way back must know
        nn.Conv2d(16, 32, 4, stride=2, padding=1),
        nn.Conv2d(16, 8, (3, 5), stride=(2, 3), padding=(0, 1), dilation=(2, 1)),
        nn.Conv2d(16, 8, 1, bias=False),
        nn.Conv2d(16, 8, 3, padding=2, dilation=2),
        nn.Conv2d(16, 8, (3, 5), padding=(0, 1)),
    ):
        net = pack_(nn.Sequential(copy.deepcopy(conv))).requires_grad_(False)
        x = torch.randn(2, 16, 12, 12, generator=generator)
        with torch.no_grad():
            for _ in range(2):
                torch.testing.assert_close(net(x), conv(x))
        for _ in range(3):
            ours, theirs = (
                torch.autograd.grad(network(leaf).square().sum(), leaf)[0]
                for network, leaf in ((net, x.clone().requires_grad_()), (conv, x.clone().requires_grad_()))
            )
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_what_onednn_cannot_take_stays_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3).double(),
    )
    before = list(net)
    assert list(pack_(net)) == before
    prepacked._onednn_has.cache_clear()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    try:
        one = nn.Sequential(nn.Conv2d(4, 4, 3))
        conv = one[0]
        assert pack_(one)[0] is conv
    finally:
        prepacked._onednn_has.cache_clear()


def test_a_pipeline_packs_what_is_its_own_alone(text_model: Model) -> None:
    if not prepacked._onednn_has(torch.float32):
        pytest.skip("no oneDNN here")
    lent = Pipeline(text_model, owned=False)
    assert lent.unet is text_model.unet and not layers(lent.unet, PackedConv2d)
    own = Pipeline(copy.deepcopy(text_model), owned=True)
    assert layers(own.unet, PackedConv2d)
    first, second, third = (
        pipe(CAPTIONS[0], seed=3, num_inference_steps=3).tensors for pipe in (lent, own, own)
    )
    assert torch.equal(first, second) and torch.equal(second, third)
