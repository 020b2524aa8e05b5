"""benchmarks/measure/work.py and networks.py: the arithmetic that is counted, and the networks it is counted of."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.measure.layers import KINDS, LayerTimes
from benchmarks.measure.networks import CONFIGS, random_model
from benchmarks.measure.work import attention_work, call_work, conv_work, counted, linear_work
from glide.diffusion.conditioning import Conditioning
from glide.networks.config import ModelConfig
from glide.networks.key_cache import with_keys
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from upsampler.presets import UPSAMPLERS

# What is counted


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_counts_its_closed_form(stride: int) -> None:
    conv, x = nn.Conv2d(6, 10, 3, stride, padding=1, groups=2), torch.randn(2, 6, 8, 12)
    height, width = 8 // stride, 12 // stride
    wanted = 2 * (3 * 3 * 3) * 10 * 2 * height * width
    assert conv_work(conv, conv(x)) == wanted
    assert counted(lambda: conv(x)) == wanted


def test_a_linear_layer_counts_its_closed_form() -> None:
    linear, x = nn.Linear(5, 7), torch.randn(2, 3, 5)
    assert linear_work(linear, linear(x)) == counted(lambda: linear(x)) == 2 * 5 * 7 * 6


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_counts_whatever_does_it(dtype: torch.dtype) -> None:
    q = torch.randn(2, 3, 16, 8, dtype=dtype)
    k = torch.randn(2, 3, 24, 8, dtype=dtype)
    wanted = 2 * (2 * 3 * 16 * 24 * 8) * 2
    assert attention_work(2, 3 * 8, 16, 24) == wanted
    with torch.inference_mode():
        assert counted(lambda: F.scaled_dot_product_attention(q, k, k)) == wanted
        assert counted(lambda: torch.softmax(q @ k.mT, dim=-1) @ k) == wanted
        with sdpa_kernel(SDPBackend.MATH):
            assert counted(lambda: F.scaled_dot_product_attention(q, k, k)) == wanted


def test_attention_counts_backward_too() -> None:
    q, k = (torch.randn(2, 3, side, 8, requires_grad=True) for side in (16, 24))
    forward = attention_work(2, 24, 16, 24)
    fused = counted(lambda: F.scaled_dot_product_attention(q, k, k).sum().backward())
    assert fused == forward + 5 * forward // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        CONFIGS["tiny"]["base"],
        CONFIGS["tiny"]["upsampler"],
        UPSAMPLERS["tiny-upsampler"],
        replace(PRESETS["tiny"], unet=replace(PRESETS["tiny"].unet, coordinates=2), inpaint=True),
        replace(PRESETS["tiny"], text=None, num_classes=4),
    ],
)
def test_three_counts_of_a_network_agree(config: ModelConfig) -> None:
    """Without weights, as it runs, and the sum of its layers."""
    model, rows, size = random_model(config, 0), 2, config.unet.image_size
    batch: dict[str, torch.Tensor] = {"y": torch.zeros(rows, dtype=torch.int64)}
    if config.text is not None:
        batch |= model.caption_batch(["a ring"] * rows)
    if config.low_res:
        batch["low_res"] = torch.zeros(rows, 3, config.low_res_size, config.low_res_size)
    batch["inpaint_image"] = torch.zeros(rows, 3, size, size)
    batch["inpaint_mask"] = torch.zeros(rows, 1, size, size)
    x, t = torch.randn(rows, 3, size, size), torch.zeros(rows, dtype=torch.int64)
    with torch.inference_mode():
        cond: Conditioning = with_keys(model.unet, model.condition(batch))
        wanted = call_work(config, rows)
        assert counted(lambda: model.unet(x, t, cond)) == wanted
        with LayerTimes(model.unet, torch.device("cpu")) as times:
            model.unet(x, t, cond)
    layers, seconds = times.layers(1)
    assert sum(layer.work for layer in layers) == wanted
    assert sum(layer.seconds for layer in layers) == pytest.approx(seconds)
    assert {layer.kind for layer in layers} == set(KINDS)
    assert min(layer.seconds for layer in layers) >= 0


def test_random_weights_are_seeded_and_sound() -> None:
    one, same, other = (random_model(CONFIGS["tiny"]["base"], seed) for seed in (0, 0, 1))
    pairs = list(zip(one.parameters(), same.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert all(not torch.equal(a, c) for a, _, c in pairs if a.ndim > 1)
    with torch.no_grad():
        x = torch.randn(1, 3, 16, 16)
        y = one(x, torch.tensor([500]), one.caption_batch(["a ring"]))
    assert 0.1 < y.std() < 10


def test_full_sizes_are_the_published_ones() -> None:
    millions = {}
    for name, config in CONFIGS["full"].items():
        with torch.device("meta"):
            millions[name] = sum(p.numel() for p in Model(config).parameters()) / 1e6
    assert millions == pytest.approx({"base": 385, "upsampler": 398}, abs=1)
