"""Operations in one go: held against their definitions in float64, and bit for bit against themselves."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.config import UNetConfig
from glide.networks.cpu import fused
from glide.networks.unet import UNet
from support.models import randomised

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
SMALL = UNetConfig(16, 3, 3, 32, (1, 2), 1, (2,), head_channels=16)


@pytest.fixture(autouse=True)
def compiled() -> None:
    if fused.library() is None:
        pytest.skip("the C of glide/networks/cpu/fused.py was not compiled where this was installed")


def activations(n: int, c: int, h: int, w: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    x = torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(seed))
    return (2 * x + 3).to(dtype).contiguous(memory_format=torch.channels_last)


def by_definition(
    x: Tensor, groups: int, weight: Tensor, bias: Tensor, told: tuple[Tensor, Tensor] | None, silu: bool
) -> Tensor:
    if groups:
        y = F.group_norm(x, groups, weight, bias, 1e-5)
    else:
        y = F.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, 1e-5).permute(0, 3, 1, 2)
    if told is not None:
        y = y * (1 + told[0][:, :, None, None]) + told[1][:, :, None, None]
    return F.silu(y) if silu else y


@pytest.mark.slow
@DTYPES
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("tells", [False, True])
@pytest.mark.parametrize(
    ("n", "c", "groups", "h", "w"),
    [
        (2, 64, 32, 8, 8),
        (3, 24, 8, 5, 3),
        (1, 7, 1, 1, 1),
        (1, 96, 32, 40, 64),
        (2, 40, 0, 9, 7),
        (1, 96, 0, 64, 64),
    ],
)
def test_values_and_gradients_are_those_of_the_definition(
    n: int, c: int, groups: int, h: int, w: int, tells: bool, silu: bool, dtype: torch.dtype
) -> None:
    generator = torch.Generator().manual_seed(1)
    x = activations(n, c, h, w, dtype)
    weight, bias = torch.randn(2, c, generator=generator)
    told = torch.randn(
        n, 2 * c, generator=generator
    )  # scale and shift lie side by side, as an embedding says them
    g = torch.randn(n, c, h, w, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    given = [t.clone().requires_grad_() for t in (x, weight, bias, told)]
    exact = [t.detach().double().requires_grad_() for t in given]

    def halves(told: Tensor) -> tuple[Tensor, Tensor] | None:
        scale, shift = told.chunk(2, dim=1)
        return (scale, shift) if tells else None

    assert fused.supports_norm(given[0])
    found = fused.norm(given[0], groups, given[1], given[2], 1e-5, halves(given[3]), silu)
    wanted = by_definition(exact[0], groups, exact[1], exact[2], halves(exact[3]), silu)
    read = 4 if tells else 3
    pairs = [
        (found, wanted),
        *zip(
            torch.autograd.grad(found, given[:read], g),
            torch.autograd.grad(wanted, exact[:read], g.double()),
            strict=True,
        ),
    ]
    for i, (ours, theirs) in enumerate(pairs):
        assert ours.dtype == (dtype if i < 2 else torch.float32)
        rounding = (
            4e-3 * (1 + i) if ours.dtype == torch.bfloat16 else 3e-6
        )  # 2^-8: one bit, of the gradient two
        assert (ours - theirs).abs().max() <= rounding * theirs.abs().max().clamp(min=1e-3)


@DTYPES
@pytest.mark.parametrize("groups", [32, 0])
def test_a_picture_depends_neither_on_the_batch_nor_on_the_threads(
    groups: int, dtype: torch.dtype, threads: None
) -> None:
    x, weight, bias = activations(5, 64, 24, 24, dtype), torch.ones(64), torch.zeros(64)
    whole = fused.norm(x, groups, weight, bias, 1e-5, silu=True)
    for i in range(5):
        assert torch.equal(fused.norm(x[i : i + 1], groups, weight, bias, 1e-5, silu=True)[0], whole[i])
    for number in (2, 3):  # elsewhere it is one (conftest.py)
        torch.set_num_threads(number)
        assert torch.equal(fused.norm(x, groups, weight, bias, 1e-5, silu=True), whole)


def test_a_large_mean_costs_no_digits() -> None:
    """The variance is not the difference of two large numbers."""
    x = activations(2, 64, 16, 16, torch.float32) + 4096.0
    weight, bias = torch.ones(64), torch.zeros(64)
    wanted = F.group_norm(x.double(), 32, weight.double(), bias.double(), 1e-5)
    found = fused.norm(x, 32, weight, bias, 1e-5)
    plain = F.group_norm(x, 32, weight, bias, 1e-5)
    assert (found - wanted).abs().max() < 2e-3  # x itself has no more digits than this
    assert (found - wanted).norm() <= 1.01 * (plain - wanted).norm()


def test_what_is_not_finite_stays_in_its_picture() -> None:
    x = activations(3, 64, 8, 8, torch.float32)
    x[1, 5, 2, 2] = float("nan")
    found = fused.norm(x, 32, torch.ones(64), torch.zeros(64), 1e-5, silu=True)
    assert found[1, 4:6].isnan().all() and found[[0, 2]].isfinite().all()


@pytest.mark.parametrize("z", [-1e4, -200.0, -88.0, -20.0, -1e-3, 0.0, 1e-3, 20.0, 88.0, 200.0, 1e4])
def test_silu_is_right_far_from_zero(z: float) -> None:
    x = torch.tensor([-1.0, 1.0]).repeat(32).view(1, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    found = fused.norm(x, 1, torch.zeros(1), torch.tensor([z]), 1e-5, silu=True)
    wanted = F.silu(torch.tensor(z, dtype=torch.float64))
    assert (found - wanted).abs().max() <= 3e-7 * wanted.abs() + 1e-32


def test_what_it_cannot_take_is_left_to_pytorch() -> None:
    x = activations(2, 64, 4, 4, torch.float32)
    assert fused.supports_norm(x)
    assert not fused.supports_norm(x.contiguous())
    assert not fused.supports_norm(x.half()) and not fused.supports_norm(x.double())
    assert not fused.supports_norm(x[:0]) and not fused.supports_norm(x.flatten(1))


@pytest.mark.slow
@DTYPES
def test_a_network_says_the_same_with_and_without(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    unet = randomised(UNet(SMALL, token_width=8), seed=1).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = activations(2, 3, 16, 16, torch.float32)
    tokens, t = torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([10, 900])
    runs = []
    for there in (True, False):
        if not there:
            monkeypatch.setattr(fused, "library", lambda: None)
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            y = unet(x, t, Conditioning(tokens=tokens))
        gradients = torch.autograd.grad(y.float().square().sum(), list(unet.parameters()))
        # all in one, for some are nothing but rounding: of a bias before a norm
        runs.append((y.float(), torch.cat([g.flatten() for g in gradients])))
    close = 1e-5 if dtype == torch.float32 else 0.05
    for ours, theirs in zip(*runs, strict=True):
        assert (ours - theirs).norm() <= close * theirs.norm()
