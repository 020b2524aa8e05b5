"""The annotated diffusion model's parts against their equations, and beside the toolkit's other features."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.blocks import (
    Attention,
    LinearAttention,
    StandardizedResBlock,
    TokenAttention,
    UNetBlock,
    UnshuffleDownsample,
)
from glide.networks.config import ModelConfig, TextConfig, UNetConfig
from glide.networks.cpu.prepacked import pack_
from glide.networks.deep_cache import DeepCache
from glide.networks.key_cache import with_keys
from glide.networks.layers import StandardizedConv2d
from glide.networks.presets import preset
from glide.networks.reduced_precision import lowered
from glide.networks.unet import UNet
from glide.utils.errors import InputError
from support.models import randomised

SMALL = UNetConfig(
    image_size=8,
    in_channels=1,
    out_channels=1,
    channels=8,
    channel_mult=(1, 2),
    num_res_blocks=2,
    attention=(1, 2),
    num_heads=2,
    head_channels=0,
    resblock_updown=False,
    blocks="standardized",
    linear_attention=True,
    unshuffle=True,
)


def standardised(weight: Tensor) -> Tensor:
    """Each output channel's weights with mean 0 and variance 1 (1903.10520, eq. 5), in float64."""
    rows = weight.double().flatten(1)
    rows = rows - rows.mean(1, keepdim=True)
    return (rows / (rows.square().mean(1, keepdim=True) + 1e-5).sqrt()).view(weight.shape)


@torch.no_grad()
def test_standardised_weights_have_mean_0_and_variance_1() -> None:
    conv, x = StandardizedConv2d(3, 5, 3, padding=1), torch.randn(2, 3, 6, 6)
    expected = F.conv2d(x.double(), standardised(conv.weight), conv.bias.double(), padding=1)
    torch.testing.assert_close(conv(x).double(), expected, rtol=0, atol=1e-5)
    moved = StandardizedConv2d(3, 5, 3, padding=1)
    moved.load_state_dict({"weight": 40 * conv.weight + 3, "bias": conv.bias})
    torch.testing.assert_close(moved(x), conv(x), rtol=2e-3, atol=2e-3)  # but for eps


@torch.no_grad()
def test_a_standardised_residual_block_is_its_equation() -> None:
    block = randomised(StandardizedResBlock(8, 16, 12), seed=1)  # type: ignore[arg-type,type-var]
    x, emb = torch.randn(2, 8, 5, 5).double(), torch.randn(2, 12).double()
    w = {name: value.double() for name, value in block.state_dict().items()}

    def conv_norm(x: Tensor, which: str) -> Tensor:
        h = F.conv2d(x, standardised(w[f"conv_{which}.weight"]), w[f"conv_{which}.bias"], padding=1)
        return F.group_norm(h, 16, w[f"norm_{which}.weight"], w[f"norm_{which}.bias"])

    scale, shift = (emb @ w["emb.weight"].T + w["emb.bias"])[:, :, None, None].chunk(2, 1)
    h = F.silu(conv_norm(x, "in") * (1 + scale) + shift)
    expected = F.conv2d(x, w["skip.weight"], w["skip.bias"]) + F.silu(conv_norm(h, "out"))
    torch.testing.assert_close(block(x.float(), emb.float()).double(), expected, rtol=0, atol=2e-5)


@torch.no_grad()
def test_linear_attention_is_a_map_of_attention_whose_rows_sum_to_one() -> None:
    layer = randomised(LinearAttention(8, heads=2), seed=2)  # type: ignore[arg-type,type-var]
    x = torch.randn(3, 8, 4, 5).double()
    w = {name: value.double() for name, value in layer.state_dict().items()}
    y = F.group_norm(x, 1, w["norm.weight"], w["norm.bias"]).flatten(2).mT  # [N,HW,C]
    parts = []
    for head in range(2):
        q, k, v = (y @ w[f"{name}.weight"][32 * head : 32 * head + 32].T for name in "qkv")  # [N,HW,32]
        attended = q.softmax(-1) @ k.softmax(-2).mT  # [N,HW,HW], each pixel to each
        torch.testing.assert_close(attended.sum(-1), torch.ones_like(attended[..., 0]))
        parts.append(attended @ v / 32**0.5)
    out = torch.cat(parts, -1) @ w["proj.weight"].T + w["proj.bias"]
    out = F.group_norm(out.mT.reshape(x.shape), 1, w["norm_out.weight"], w["norm_out.bias"])
    torch.testing.assert_close(layer(x.float()).double(), x + out, rtol=0, atol=2e-5)


@torch.no_grad()
def test_unshuffling_down_is_a_convolution_of_2x2_squares() -> None:
    down, x = UnshuffleDownsample(3, 5), torch.randn(2, 3, 6, 8)
    weight = down.conv.weight.view(5, 3, 2, 2)  # a square's pixels, one after the other, of each channel
    expected = F.conv2d(x, weight, down.conv.bias, stride=2)
    torch.testing.assert_close(down(x), expected, rtol=0, atol=1e-5)


def test_the_preset_is_the_article_s() -> None:
    config = preset("annotated-28")
    unet = UNet(config.unet)
    assert [config.unet.channels * m for m in config.unet.channel_mult] == [28, 56, 112]
    kinds = [type(module).__name__ for module in unet.modules()]
    assert (
        kinds.count("LinearAttention") == 6 and kinds.count("Attention") == 1
    )  # a level and path; the middle
    assert list(unet.attention_layers()) == ["middle"]
    assert kinds.count("UnshuffleDownsample") == 2 and kinds.count("ResBlock") == 0
    norms = [m for m in unet.modules() if isinstance(m, LinearAttention)]
    assert all(m.norm.num_groups == m.norm_out.num_groups == 1 and m.q.out_features == 128 for m in norms)
    x = torch.zeros(2, 1, 28, 28)
    assert unet(x, torch.tensor([0, 299]), Conditioning()).shape == x.shape


def test_widths_change_between_levels_and_attention_is_last_of_each() -> None:
    unet = UNet(SMALL)
    assert unet.skip_widths == [8, 8, 8, 16, 16, 16]
    attended = [
        isinstance(block.attn, LinearAttention) for block in unet.down if isinstance(block, UNetBlock)
    ]
    assert attended == [False, True, False, False, True]
    assert [isinstance(block.attn, LinearAttention) for block in unet.up] == [False, False, True] * 2
    assert (unet.up[2].up.conv.in_channels, unet.up[2].up.conv.out_channels) == (16, 8)


@torch.no_grad()
def test_deep_cache_packed_weights_and_half_precision() -> None:
    unet = randomised(UNet(SMALL), seed=3)  # type: ignore[arg-type,type-var]
    x, t, cond = torch.randn(2, 1, 8, 8), torch.full((2,), 9), Conditioning()
    plain = unet(x, t, cond)
    assert torch.equal(DeepCache(unet, 1)(x, t, cond), plain)
    half = lowered(unet, torch.bfloat16)
    assert half.down[0].res.conv_in.weight.dtype == torch.bfloat16
    assert half.down[1].attn.proj.weight.dtype == torch.bfloat16
    error = (half(x, t, cond) - plain).square().mean().sqrt() / plain.std()
    assert error < 0.05  # eight bits, through twelve blocks
    for network in (lowered(unet, torch.float32), half):
        expected = network(x, t, cond)
        packed = pack_(network)
        for _ in range(2):  # the second with weights in their layout
            torch.testing.assert_close(packed(x, t, cond), expected, rtol=0, atol=2e-2 * float(plain.std()))


def test_gradients_reach_every_weight() -> None:
    unet = randomised(UNet(SMALL), seed=4)  # type: ignore[arg-type,type-var]
    unet.gradient_checkpointing = True
    unet(torch.randn(2, 1, 8, 8), torch.tensor([3, 200]), Conditioning()).square().mean().backward()
    assert not [name for name, p in unet.named_parameters() if p.grad is None or not p.grad.abs().sum()]


@torch.no_grad()
def test_captions_reach_each_level_by_cross_attention() -> None:
    config = replace(SMALL, token_attention="cross")
    unet = randomised(UNet(config, token_width=6), seed=5)  # type: ignore[arg-type,type-var]
    assert (
        sum(isinstance(module, TokenAttention) for module in unet.modules()) == 5
    )  # a level and path; the middle
    assert sum(isinstance(module, Attention) for module in unet.modules()) == 1
    x, t = torch.randn(2, 1, 8, 8), torch.tensor([9, 9])
    cond = Conditioning(tokens=torch.randn(2, 4, 6))
    plain = unet(x, t, cond)
    assert not torch.equal(plain, unet(x, t, Conditioning(tokens=torch.randn(2, 4, 6))))
    assert torch.equal(unet(x, t, with_keys(unet, cond)), plain)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resblock_updown": True}, "with resblock_updown, expected resblock_updown false"),
        ({"scale_shift": False}, "blocks standardized without scale_shift"),
        ({"local": True, "blocks": "adm"}, "got linear_attention with local"),
        ({"num_heads": 3}, "cannot be split into attention heads"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(SMALL, **change).check()  # type: ignore[arg-type]


def test_captions_without_cross_attention_are_refused() -> None:
    config = ModelConfig(
        unet=replace(SMALL, out_channels=2), text=TextConfig(vocab=16, width=8, heads=2, layers=1)
    )
    with pytest.raises(InputError, match="expected token_attention cross"):
        config.check()


def test_a_folder_of_before_these_options_means_what_it_meant() -> None:
    values = ModelConfig(unet=replace(SMALL, blocks="adm", linear_attention=False, unshuffle=False)).to_dict()
    for name in ("blocks", "linear_attention", "unshuffle"):
        del values["unet"][name]
    del values["process"]["betas"]
    values["unet"]["out_channels"] = 2
    config = ModelConfig.from_dict(values)
    assert (config.unet.blocks, config.unet.linear_attention, config.process.betas) == ("adm", False, ())
