"""Attention: its values and its own way back held against the definition, in float64."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from glide.networks.cpu import dispatch, fused
from glide.networks.cpu.dispatch import cross_attention, self_attention

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
CASES = [
    # pictures, heads, width, tokens, told, queries, causal
    (2, 3, 16, 13, 0, 13, False),
    (3, 2, 32, 64, 0, 64, False),
    (2, 2, 48, 37, 0, 37, True),
    (2, 4, 32, 16, 9, 16, False),
    (2, 1, 64, 150, 70, 150, False),
    (3, 2, 32, 17, 0, 1, False),
    (1, 1, 16, 1, 0, 1, True),
    (2, 2, 16, 0, 21, 130, False),  # told tokens alone
    (2, 2, 20, 12, 5, 12, False),  # of a width that only PyTorch takes
]


@pytest.fixture
def compiled() -> None:
    if fused.library() is None:
        pytest.skip("the C of glide/networks/cpu/fused.py was not compiled where this was installed")


def by_definition(qkv: Tensor, told: Tensor | None, heads: int, queries: int, causal: bool) -> Tensor:
    if told is None:
        q, k, v = qkv.chunk(3, dim=-1)
    else:
        q, (k, v) = qkv, told.chunk(2, dim=-1)
        if qkv.shape[2] != k.shape[2]:
            q, own_k, own_v = qkv.chunk(3, dim=-1)
            k, v = torch.cat([k, own_k], dim=1), torch.cat([v, own_v], dim=1)
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q[:, :queries], k, v))
    scores = q @ k.mT / q.shape[-1] ** 0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def sequence(
    n: int, heads: int, width: int, tokens: int, told: int, queries: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None, Tensor]:
    """qkv, or queries alone; what is told, a part of something wider, as keys of all layers lie; a gradient."""
    generator = torch.Generator().manual_seed(tokens + told)
    c = heads * width
    qkv = torch.randn(n, tokens or queries, 3 * c if tokens else c, generator=generator).to(dtype)
    wide = torch.randn(n, told, 2 * c + 8, generator=generator).to(dtype)
    return qkv, wide[..., 8:] if told else None, torch.randn(n, queries, c, generator=generator).to(dtype)


@DTYPES
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_the_definition(
    case: tuple[int, int, int, int, int, int, bool], dtype: torch.dtype
) -> None:
    n, heads, width, tokens, told, queries, causal = case
    qkv, kv, g = sequence(n, heads, width, tokens, told, queries, dtype)
    given = [x.detach().requires_grad_() for x in (qkv, kv) if x is not None]
    exact = [x.detach().double().requires_grad_() for x in given]
    if tokens:
        found = self_attention(given[0], heads, *given[1:], causal=causal, queries=queries)
    else:
        found = cross_attention(given[0], given[1], heads)
    wanted = by_definition(exact[0], exact[1] if told else None, heads, queries, causal)
    pairs = [
        (found, wanted),
        *zip(
            torch.autograd.grad(found, given, g), torch.autograd.grad(wanted, exact, g.double()), strict=True
        ),
    ]
    with torch.no_grad():  # which is drawing's way
        if tokens:
            drawn = self_attention(qkv, heads, kv, causal=causal, queries=queries)
        else:
            drawn = cross_attention(*given, heads)
    for ours, theirs in [*pairs, (drawn, wanted)]:
        assert ours.dtype == dtype and ours.shape == theirs.shape
        rounding = 1e-2 if dtype == torch.bfloat16 else 1e-6
        assert (ours - theirs).norm() <= rounding * theirs.norm().clamp(min=1e-3)


@DTYPES
def test_sharp_attention_costs_no_digits(compiled: None, dtype: torch.dtype) -> None:
    """Where one token takes nearly all, and most shares are too small for the type, as trained networks have it."""
    qkv, _, g = sequence(2, 4, 32, 64, 0, 64, dtype)
    sharp = (8 * qkv).requires_grad_()
    exact = sharp.detach().double().requires_grad_()
    (ours,) = torch.autograd.grad(self_attention(sharp, 4), sharp, g)
    (theirs,) = torch.autograd.grad(by_definition(exact, None, 4, 64, False), exact, g.double())
    off = (ours - theirs).norm() / theirs.norm()
    assert off < (4e-3 if dtype == torch.bfloat16 else 2e-5)  # 2^-9 is the rounding of the result alone


@DTYPES
def test_a_picture_depends_neither_on_the_batch_nor_on_the_threads(
    compiled: None, dtype: torch.dtype, threads: None
) -> None:
    qkv, kv, g = sequence(5, 2, 32, 50, 7, 50, dtype)
    whole = fused.attention_gradient(g, qkv, kv, 2)
    for i in range(5):
        alone = fused.attention_gradient(g[i : i + 1], qkv[i : i + 1], kv[i : i + 1], 2)
        assert all(torch.equal(one[0], all_[i]) for one, all_ in zip(alone, whole, strict=True))
    for number in (2, 3):  # elsewhere it is one (conftest.py)
        torch.set_num_threads(number)
        assert all(map(torch.equal, fused.attention_gradient(g, qkv, kv, 2), whole))


@DTYPES
@pytest.mark.parametrize("limit", ["", "avx2"])
@pytest.mark.parametrize(
    "case",
    [
        (2, 2, 64, 201, 77, 201, False),  # queries in two units of work
        (1, 1, 128, 1100, 0, 1100, False),  # fewer queries in the cache together
        (1, 3, 48, 200, 0, 193, True),
        (2, 2, 80, 0, 21, 130, False),
    ],
)
def test_attention_without_gradients_is_the_definition(
    compiled: None,
    monkeypatch: pytest.MonkeyPatch,
    case: tuple[int, int, int, int, int, int, bool],
    limit: str,
    dtype: torch.dtype,
) -> None:
    n, heads, width, tokens, told, queries, causal = case
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", limit)
    qkv, kv, _ = sequence(n, heads, width, tokens, told, queries, dtype)
    qkv = 3 * qkv
    if fused.library().glide_attention_supported() == 0:  # type: ignore[union-attr]
        pytest.skip("this processor has no AVX2")
    found = fused.attention_forward(qkv, kv, heads, queries, causal)
    wanted = by_definition(qkv.double(), None if kv is None else kv.double(), heads, queries, causal)
    assert found.dtype == dtype and found.shape == wanted.shape
    assert (found - wanted).norm() <= (4e-3 if dtype == torch.bfloat16 else 2e-6) * wanted.norm()


@DTYPES
def test_a_query_depends_on_no_other_query_nor_on_the_threads(
    compiled: None, dtype: torch.dtype, threads: None
) -> None:
    qkv, kv, _ = sequence(3, 2, 32, 210, 7, 210, dtype)
    if not fused.supports_attention(qkv, kv, 32):
        pytest.skip("PyTorch's attention is used here")
    whole = fused.attention_forward(qkv, kv, 2, 210)
    for i in range(3):
        assert torch.equal(fused.attention_forward(qkv[i : i + 1], kv[i : i + 1], 2, 210)[0], whole[i])
    assert torch.equal(fused.attention_forward(qkv, kv, 2, 100), whole[:, :100])
    for number in (2, 3):
        torch.set_num_threads(number)
        assert torch.equal(fused.attention_forward(qkv, kv, 2, 210), whole)
    qkv[1, 3, -2] = float("nan")  # of a value
    found = fused.attention_forward(qkv, kv, 2, 210)
    assert found[1].isnan().any() and torch.equal(found[[0, 2]], whole[[0, 2]])


def test_drawing_uses_it_where_it_can(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []
    forward = fused.attention_forward
    monkeypatch.setattr(fused, "attention_forward", lambda *inputs: calls.append(1) or forward(*inputs))
    qkv = torch.randn(1, 20, 96)
    with torch.no_grad():
        drawn = self_attention(qkv, 1)
        in_c = fused.supports_attention(qkv, None, 32)
        monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
        theirs = self_attention(qkv, 1)
    assert len(calls) == in_c
    torch.testing.assert_close(drawn, theirs)
    monkeypatch.delenv("ATEN_CPU_CAPABILITY")
    assert not fused.supports_attention(qkv, None, 24) and not fused.supports_attention(qkv.half(), None, 32)
    assert not fused.supports_attention(torch.zeros(1, 20, 3 * 144), None, 144)
    monkeypatch.setattr(fused, "_has_matrix_units", lambda: True)
    assert not fused.supports_attention(qkv.bfloat16(), None, 32)
    assert fused.supports_attention(qkv, None, 32) == in_c
    monkeypatch.setattr(fused, "library", lambda: None)
    assert not fused.supports_attention(qkv, None, 32)


def test_what_is_not_finite_stays_in_its_picture(compiled: None) -> None:
    qkv, _, g = sequence(3, 2, 16, 12, 0, 12, torch.float32)
    g[1, 3, 2] = float("nan")
    found, _ = fused.attention_gradient(g, qkv, None, 2)
    assert found[1].isnan().any() and found[[0, 2]].isfinite().all()


def test_what_it_cannot_take_is_left_to_pytorch(compiled: None, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = torch.zeros(2, 12, 96)
    assert fused.supports_gradient(qkv, None, 32) and fused.supports_gradient(qkv, torch.zeros(2, 5, 64), 32)
    assert not fused.supports_gradient(qkv, None, 24) and not fused.supports_gradient(qkv.half(), None, 32)
    assert not fused.supports_gradient(qkv, torch.zeros(2, 5, 64, dtype=torch.bfloat16), 32)
    assert not fused.supports_gradient(torch.zeros(1, 1025, 96), None, 32)
    assert not fused.supports_gradient(torch.zeros(1, 193, 96, dtype=torch.bfloat16), None, 32)
    assert not fused.supports_gradient(qkv[:, :0], None, 32)
    monkeypatch.setattr(fused, "library", lambda: None)
    assert not fused.supports_gradient(qkv, None, 32)


@pytest.mark.parametrize(
    ("units", "tokens", "in_c"), [(False, 100, True), (True, 96, True), (True, 97, False)]
)
def test_many_tokens_are_left_to_bfloat16_units(
    compiled: None, monkeypatch: pytest.MonkeyPatch, units: bool, tokens: int, in_c: bool
) -> None:
    monkeypatch.setattr(dispatch, "multiplies_fast", lambda device, dtype: units)
    calls: list[object] = []
    gradient = fused.attention_gradient
    monkeypatch.setattr(fused, "attention_gradient", lambda *inputs: calls.append(1) or gradient(*inputs))
    for dtype in (torch.bfloat16, torch.float32):
        qkv = torch.randn(1, tokens, 96, dtype=dtype, requires_grad=True)
        torch.autograd.grad(self_attention(qkv, 1).sum(), qkv)
        assert len(calls) == (in_c or dtype == torch.float32)
        calls.clear()


@pytest.mark.slow
def test_second_derivatives_are_pytorchs() -> None:
    qkv, kv, _ = sequence(1, 1, 16, 3, 2, 3, torch.float32)
    given = (qkv.double().requires_grad_(), kv.double().requires_grad_())
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(lambda a, b: self_attention(a, 1, b), given)
        leaf = qkv.clone().requires_grad_()
        (first,) = torch.autograd.grad(self_attention(leaf, 1, kv).square().sum(), leaf, create_graph=True)
    assert torch.autograd.grad(first.square().sum(), leaf)[0].isfinite().all()
