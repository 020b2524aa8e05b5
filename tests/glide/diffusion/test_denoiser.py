"""Conditionings, and how a network becomes a denoiser."""

import math

import pytest
import torch

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import (
    Prediction,
    Predictor,
    clamp,
    log_variance,
    pin_known,
    project,
    replace_known,
)
from glide.diffusion.noise_schedules import make_process
from glide.utils.errors import InputError


def randn(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def full_cond(n=2, seed=0):
    return Conditioning(
        randn(n, 8, seed=seed), randn(n, 5, 4, seed=seed + 1), randn(n, 3, 6, 6, seed=seed + 2)
    )


# --- Cond ---------------------------------------------------------------------------------


def test_cat_slice_and_repeat_agree():
    a, b = full_cond(2), full_cond(2, seed=9)
    both = Conditioning.cat([a, b])
    assert both.rows == 4 and both[:2].same(a) and both[2:].same(b)
    assert a.repeat(3).same(Conditioning.cat([a, a, a]))


def test_absent_parts_stay_absent():
    nothing = Conditioning()
    assert nothing.rows is None
    for other in (Conditioning.cat([nothing, nothing]), nothing[:1], nothing.repeat(2), nothing.to("cpu")):
        assert other.same(nothing) and other.parts() == {}
    tokens_only = Conditioning(tokens=randn(2, 5, 4)).repeat(2)
    assert list(tokens_only.parts()) == ["tokens"] and tokens_only.rows == 4


def test_cat_refuses_different_parts():
    with pytest.raises(InputError, match=r"vector\+tokens\+planes against tokens"):
        Conditioning.cat([full_cond(), Conditioning(tokens=randn(2, 5, 4))])


def test_same_sees_values_and_parts():
    cond = full_cond()
    assert cond.same(full_cond()) and not cond.same(full_cond(seed=1)) and not cond.same(Conditioning())
    assert not cond.same(Conditioning(cond.vector, cond.tokens, cond.planes[:, :2]))


def test_with_planes_joins_in_order():
    low_res, image, mask = randn(2, 3, 6, 6), randn(2, 3, 6, 6, seed=1), torch.ones(2, 1, 6, 6)
    cond = Conditioning(planes=low_res).with_planes(image, mask)
    assert torch.equal(cond.planes, torch.cat([low_res, image, mask], dim=1))
    assert torch.equal(Conditioning().with_planes(mask).planes, mask)


def test_to_changes_the_type_of_every_part():
    parts = full_cond().to(dtype=torch.bfloat16).parts().values()
    assert [part.dtype for part in parts] == [torch.bfloat16] * 3


# --- Predictor ----------------------------------------------------------------------------


@pytest.mark.parametrize("t", [0, 400, 999])
def test_the_three_spaces_name_the_same_x0(t):
    process = make_process("cosine")
    x0, eps = randn(2, 3, 4, 4, dtype=torch.float64), randn(2, 3, 4, 4, seed=1, dtype=torch.float64)
    x = process.q_sample(x0, torch.tensor([t, t]), eps)
    alpha, sigma = math.sqrt(process.alpha_bar[t]), math.sqrt(1 - process.alpha_bar[t])
    for space, output in {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0}.items():
        (prediction,) = Predictor(lambda *_: output, process, space)(x, t, [Conditioning()])
        torch.testing.assert_close(prediction.x0, x0, rtol=1e-9, atol=1e-9)
        assert prediction.v is None


def test_one_network_call_serves_all_conditionings():
    calls = []

    def net(x, t, cond):
        calls.append((x.shape, t.tolist()))
        return x + cond.vector[:, :1, None, None]

    x, conds = randn(2, 3, 4, 4), [Conditioning(torch.full((2, 1), float(k))) for k in range(3)]
    predictions = Predictor(net, make_process("cosine"), "x0")(x, 7, conds)
    assert calls == [((6, 3, 4, 4), [7] * 6)]
    for k, prediction in enumerate(predictions):
        assert torch.equal(prediction.x0, x + k)


def test_a_conditioning_of_one_row_serves_the_batch():
    net = lambda x, t, cond: x + cond.vector[:, :, None, None]
    predict = Predictor(net, make_process("cosine"), "x0")
    x, one = randn(3, 1, 4, 4), Conditioning(torch.tensor([[2.0]]))
    assert torch.equal(predict(x, 0, [one])[0].x0, predict(x, 0, [one.repeat(3)])[0].x0)
    with pytest.raises(InputError, match="2 rows for 3 samples"):
        predict(x, 0, [one.repeat(2)])


def test_the_second_half_of_the_channels_is_v_and_all_is_float32():
    x, output = randn(2, 3, 4, 4), randn(2, 6, 4, 4, seed=1).bfloat16()
    (prediction,) = Predictor(lambda *_: output, make_process("cosine"), "x0")(x, 3, [Conditioning()])
    assert torch.equal(prediction.x0, output[:, :3].float()) and torch.equal(
        prediction.v, output[:, 3:].float()
    )


@pytest.mark.parametrize("space", ["v", "x0"])
def test_zero_terminal_snr_works_without_eps(space):
    process = make_process("cosine", zero_terminal_snr=True)
    x, output = randn(1, 3, 4, 4), randn(1, 3, 4, 4, seed=1)
    (prediction,) = Predictor(lambda *_: output, process, space)(x, 999, [Conditioning()])
    assert torch.equal(prediction.x0, output if space == "x0" else -output)


def test_mistakes_are_explained():
    process = make_process("cosine")
    net = lambda x, t, cond: x[:, :2]
    with pytest.raises(InputError, match="zero terminal SNR"):
        Predictor(net, make_process("cosine", zero_terminal_snr=True), "eps")
    with pytest.raises(InputError, match="'epsilon'"):
        Predictor(net, process, "epsilon")
    with pytest.raises(InputError, match="2 channels for x of 3"):
        Predictor(net, process)(randn(1, 3, 4, 4), 0, [Conditioning()])
    for t in (-1, 1000):
        with pytest.raises(InputError, match=f"timestep {t}"):
            Predictor(net, process)(randn(1, 3, 4, 4), t, [Conditioning()])


# --- project ------------------------------------------------------------------------------


def test_maps_apply_in_order_and_to_x0_only():
    x, v, grad = randn(1, 3, 4, 4), randn(1, 3, 4, 4, seed=1), randn(1, 3, 4, 4, seed=2)
    denoise = project(lambda x, t: Prediction(x, v, grad), lambda x0: x0 + 1, lambda x0: x0 * 2)
    prediction = denoise(x, 0)
    assert torch.equal(prediction.x0, (x + 1) * 2)
    assert prediction.v is v and prediction.grad is grad


def test_known_pixels_are_pinned_bit_for_bit_then_clamped():
    x, image = 3 * randn(2, 3, 8, 8), randn(1, 3, 8, 8, seed=1).clamp(-1, 1)
    mask = (randn(1, 1, 8, 8, seed=2) > 0).float()
    x0 = project(lambda x, t: Prediction(x), replace_known(image, mask), clamp)(x, 0).x0
    known = mask.bool().expand_as(x)
    assert torch.equal(x0[known], image.expand_as(x)[known])
    assert torch.equal(x0[~known], x.clamp(-1, 1)[~known])


# --- variance -----------------------------------------------------------------------------


def test_v_interpolates_between_the_two_fixed_variances():
    process = make_process("cosine").respaced([100, 500, 900])
    like, t = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 2])
    small = log_variance(process, t, None, "fixed_small", like)
    large = log_variance(process, t, None, "fixed_large", like)
    ones = torch.ones_like(like)
    torch.testing.assert_close(log_variance(process, t, -ones, "learned", like), small.expand_as(like))
    learned = log_variance(process, t, ones, "learned", like)
    torch.testing.assert_close(learned[1:], large[1:].expand_as(like[1:]))
    # Only the last step differs: beta would blur the decoder, a learned v may choose it.
    assert torch.equal(large[0], small[0]) and learned[0, 0, 0, 0] == pytest.approx(
        math.log(process.betas[0])
    )


def test_variance_mistakes_are_explained():
    process, like, t = make_process("cosine"), torch.zeros(1, 1, 2, 2), torch.tensor([3])
    with pytest.raises(InputError, match="fixed_small or fixed_large"):
        log_variance(process, t, None, "learned", like)
    with pytest.raises(InputError, match="'small'"):
        log_variance(process, t, None, "small", like)


def test_known_pixels_are_pinned() -> None:
    """Its x0 is the picture's, no gradient moves it, and where there is no gradient there is none."""
    image, mask = torch.full((1, 1, 1, 2), 0.5), torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    x0, pull = torch.full((1, 1, 1, 2), -1.0), torch.ones(1, 1, 1, 2)
    found = pin_known(lambda x, t: Prediction(x0, grad=pull), image, mask)(x0, 0)
    assert found.x0.flatten().tolist() == [0.5, -1.0]
    assert isinstance(found.grad, torch.Tensor) and found.grad.flatten().tolist() == [0.0, 1.0]
    plain = pin_known(lambda x, t: Prediction(x0), image, mask)(x0, 0)
    assert isinstance(plain.grad, float) and plain.grad == 0.0
