"""The published checkpoints: every tensor maps once, the right options, and refusal of what does not fit."""

import gzip
import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.openai.convert import from_state_dict, load, mapping
from glide.checkpoints.openai.options import complete, model_config, parse_options
from glide.checkpoints.openai.releases import PUBLISHED, options_for
from glide.networks.blocks import UNetBlock
from glide.networks.config import ProcessConfig
from glide.networks.input_planes import plane_count
from glide.networks.presets import PRESETS
from glide.utils.errors import InputError
from support.openai_nets import GOLDEN, TINY, same_weights, tiny_state


def published() -> dict[str, dict]:
    """The published U-Nets by file name: options, and the shape of each tensor."""
    table = json.loads(gzip.decompress((GOLDEN / "published_checkpoints.json.gz").read_bytes()))
    files = {key.rpartition("/")[2] + ".pt": value for key, value in table.items()}
    return {name: v for name, v in files.items() if "classifier" not in name and "clip" not in name}


# --- the published files -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", published())
def test_each_published_tensor_maps_exactly_once(name: str) -> None:
    options, shapes = published()[name]["options"], published()[name]["tensors"]
    sources = mapping(options)
    assert sorted(source.name for source in sources.values()) == sorted(shapes)
    assert {source.name: list(source.shape) for source in sources.values()} == shapes

    with torch.device("meta"):
        state = {key: torch.empty(shape, dtype=torch.float16) for key, shape in shapes.items()}
    model = from_state_dict(state, options)
    assert {key for key, _ in model.named_parameters()} == set(sources)
    assert not list(model.buffers())
    for key, parameter in model.named_parameters():
        assert parameter.numel() == state[sources[key].name].numel() and parameter.dtype == torch.float32


@pytest.mark.parametrize("name", published())
def test_the_file_name_tells_the_options(name: str) -> None:
    options = published()[name]["options"]
    assert complete(options_for(f"https://somewhere/{name}")) == complete(options)
    assert {key: complete(options_for(name))[key] for key in options} == options
    assert model_config(options_for(name)) == model_config(options)


def test_all_lsun_models_share_their_options() -> None:
    assert set(PUBLISHED) - set(published()) == {"lsun_cat.pt", "lsun_horse.pt", "lsun_horse_nodropout.pt"}
    assert options_for("lsun_cat.pt") == options_for("lsun_horse.pt") == options_for("lsun_bedroom.pt")
    assert options_for("lsun_horse_nodropout.pt") == options_for("lsun_horse.pt") | {"dropout": 0.0}


@pytest.mark.parametrize(
    ("preset", "name"),
    [
        ("glide-base", "base.pt"),
        ("adm-64", "64x64_diffusion.pt"),
        ("adm-128", "128x128_diffusion.pt"),
        ("adm-256", "256x256_diffusion.pt"),
        ("adm-256-uncond", "256x256_diffusion_uncond.pt"),
        ("adm-512", "512x512_diffusion.pt"),
    ],
)
def test_presets_are_the_published_configurations(preset: str, name: str) -> None:
    assert PRESETS[preset] == model_config(options_for(name))


def test_processes_of_the_published_models() -> None:
    cosine, linear = ProcessConfig("squaredcos_cap_v2"), ProcessConfig("linear")
    assert cosine.variance == linear.variance == "learned" and linear.prediction == "eps"
    for name in PUBLISHED:
        is_cosine = name in ("base.pt", "base_inpaint.pt", "64x64_diffusion.pt")
        assert model_config(options_for(name)).process == (cosine if is_cosine else linear), name


def test_inputs_of_the_published_models() -> None:
    configs = {name: model_config(options_for(name)) for name in PUBLISHED}
    planes = {name: plane_count(config) for name, config in configs.items() if plane_count(config)}
    assert planes == {
        "base_inpaint.pt": 4,
        "upsample.pt": 3,
        "upsample_inpaint.pt": 7,
        "64_256_upsampler.pt": 3,
        "128_512_upsampler.pt": 3,
    }
    assert [name for name, config in configs.items() if config.text] == list(PUBLISHED)[:4]
    assert configs["128_512_upsampler.pt"].unet.image_size == 512
    # resolution 16 of 512 is the sixth of the upsampler's six levels, of seven in the 512x512 model
    assert configs["128_512_upsampler.pt"].unet.attention == (16, 32)
    assert configs["512x512_diffusion.pt"].unet.attention == (16, 32, 64)


@pytest.mark.parametrize("new_order", [False, True])
def test_heads_of_the_way_up_may_be_others(new_order: bool) -> None:
    """As in ADM's UNetModel: `num_heads` on the way down and in the middle, `num_heads_upsample` on the way up."""
    options = TINY | {"num_head_channels": -1, "num_heads": 4, "num_heads_upsample": 2}
    options |= {"use_new_attention_order": new_order}
    assert model_config(options).unet.num_heads_upsample == 2
    state = tiny_state()
    unet = from_state_dict(state, options).unet
    layers = {"input_blocks.3.1": (unet.down[2], 4), "middle_block.1": (unet.middle_in, 4)}
    layers |= {"output_blocks.0.1": (unet.up[0], 2), "output_blocks.1.1": (unet.up[1], 2)}
    x = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(1))
    for name, (block, heads) in layers.items():
        assert isinstance(block, UNetBlock) and block.attn is not None and block.attn.heads == heads
        expected = attended(x, {k: state[f"{name}.{k}"] for k in ATTENTION}, heads, new_order)
        other = attended(x, {k: state[f"{name}.{k}"] for k in ATTENTION}, 6 - heads, new_order)
        found = block.attn(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found, other, rtol=1e-4, atol=1e-5)


ATTENTION = ("norm.weight", "norm.bias", "qkv.weight", "qkv.bias", "proj_out.weight", "proj_out.bias")


def attended(x: Tensor, state: dict[str, Tensor], heads: int, new_order: bool) -> Tensor:
    """ADM's AttentionBlock, written down again: QKVAttention (`new_order`) or QKVAttentionLegacy."""
    n, c, length = len(x), x.shape[1], x[0, 0].numel()
    h = F.group_norm(x, 32, state["norm.weight"], state["norm.bias"]).flatten(2)
    qkv = F.conv1d(h, state["qkv.weight"], state["qkv.bias"])
    if new_order:  # (q|k|v, head, d)
        q, k, v = (part.reshape(n * heads, c // heads, length) for part in qkv.chunk(3, dim=1))
    else:  # (head, q|k|v, d)
        q, k, v = qkv.reshape(n * heads, 3 * c // heads, length).split(c // heads, dim=1)
    weight = torch.einsum("bct,bcs->bts", q, k).div((c // heads) ** 0.5).softmax(dim=-1)
    h = torch.einsum("bts,bcs->bct", weight, v).reshape(n, c, length)
    return x + F.conv1d(h, state["proj_out.weight"], state["proj_out.bias"]).reshape(x.shape)


# --- conversion ----------------------------------------------------------------------------------------------------


def test_rows_of_q_k_v_are_reordered() -> None:
    heads, width = 4, 8
    state = tiny_state() | {"middle_block.1.qkv.bias": torch.arange(96.0)}
    legacy = from_state_dict(state, TINY | {"num_head_channels": width}).unet.middle_in.attn
    new = from_state_dict(state, TINY | {"use_new_attention_order": True}).unet.middle_in.attn
    assert legacy is not None and new is not None
    expected = [
        head * 3 * width + part * width + d
        for part in range(3)
        for head in range(heads)
        for d in range(width)
    ]
    assert legacy.qkv.bias.tolist() == expected
    assert new.qkv.bias.tolist() == list(range(96))
    assert torch.equal(legacy.qkv.weight, state["middle_block.1.qkv.weight"][expected, :, 0])


def test_the_model_is_float32_in_eval_mode_and_shares_no_memory() -> None:
    for dtype in (torch.float32, torch.float16):
        state = {key: value.to(dtype) for key, value in tiny_state().items()}
        model, before = from_state_dict(state, TINY), from_state_dict(state, TINY)
        assert not model.training and all(p.requires_grad for p in model.parameters())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        assert all(p.is_contiguous() for p in model.parameters())
        for value in state.values():
            value.zero_()
        assert same_weights(model, before)


def test_both_forms_of_the_options_are_the_same_model() -> None:
    constructor = {
        "cls": "UNetModel",
        "image_size": 16,
        "in_channels": 3,
        "model_channels": 32,
        "out_channels": 6,
        "num_res_blocks": 1,
        "attention_resolutions": [2],
        "channel_mult": [1, 1],
        "num_heads": 4,
        "num_head_channels": 16,
        "resblock_updown": False,
        "use_scale_shift_norm": True,
        "num_classes": 3,
    }
    assert model_config(constructor) == model_config(TINY)
    upsampler = TINY | {"large_size": 32, "attention_resolutions": "16"}
    built = constructor | {"cls": "SuperResModel", "image_size": 32}
    assert model_config(built) == model_config(upsampler)
    base = options_for("upsample_inpaint.pt")
    built = {"cls": "SuperResInpaintText2ImUnet", "image_size": 256, "attention_resolutions": [8, 16, 32]}
    assert model_config(built) == model_config(base)


def test_other_outputs_of_adm() -> None:
    plain = model_config(TINY | {"learn_sigma": False})
    assert plain.unet.out_channels == 3 and plain.process.variance == "fixed_large"
    small = model_config(TINY | {"learn_sigma": False, "sigma_small": True, "predict_xstart": True})
    assert small.process.variance == "fixed_small" and small.process.prediction == "x0"
    assert model_config(TINY | {"rescale_timesteps": True}) == model_config(TINY)  # 1000 steps: the same


# --- refusals ------------------------------------------------------------------------------------------------------


def test_a_state_that_does_not_fit_is_refused_with_the_first_names() -> None:
    state: dict[str, Any] = dict(tiny_state())
    del state["out.0.weight"], state["time_embed.2.bias"]
    state |= {"extra.weight": torch.zeros(2), "out.2.bias": torch.zeros(3), "label_emb.weight": [1.0]}
    state["out.2.weight"] = state["out.2.weight"].long()
    with pytest.raises(InputError) as error:
        from_state_dict(state, TINY)
    for part in (
        "missing: time_embed.2.bias, out.0.weight;",
        "unexpected: extra.weight;",
        "not a tensor of real numbers: label_emb.weight, out.2.weight;",
        "wrong shape: out.2.bias (3 instead of 6)",
    ):
        assert part in str(error.value)
    with pytest.raises(InputError, match=r"unexpected: label_emb.weight\)"):
        from_state_dict(tiny_state(), TINY | {"class_cond": False})
    with pytest.raises(
        InputError, match=r"wrong shape: out.2.weight \(6x32x3x3 instead of 3x32x3x3\), out.2.bias"
    ):
        from_state_dict(tiny_state(), TINY | {"learn_sigma": False})
    with pytest.raises(InputError, match=r"missing: positional_embedding, .* and \d\d\d more; unexpected"):
        from_state_dict(tiny_state(), options_for("base.pt"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_chanels": 32}, "unknown option 'num_chanels'"),
        ({"num_channels": "many"}, "num_channels is 'many'; a whole number"),
        ({"num_channels": True}, "num_channels is True; a whole number"),
        ({"num_res_blocks": 0}, "num_res_blocks is 0"),
        ({"image_size": -8}, "image_size is -8"),
        ({"dropout": "0.1"}, "dropout is '0.1'; a float"),
        ({"learn_sigma": 1}, "learn_sigma is 1; a bool"),
        ({"channel_mult": "1,two"}, "channel_mult is '1,two'; positive numbers"),
        ({"attention_resolutions": [0]}, "positive numbers"),
        ({"channel_mult": ""}, "no default channel_mult for image_size=16"),
        ({"noise_schedule": "sigmoid"}, "unknown noise_schedule 'sigmoid'"),
        ({"rescale_timesteps": True, "diffusion_steps": 4000}, "gives the network other timesteps"),
        ({"num_head_channels": -1, "num_heads_upsample": 5}, "cannot be split into attention heads"),
        ({"num_head_channels": 24}, "cannot be split into attention heads"),
        ({"num_head_channels": -1, "num_heads": 5}, "cannot be split into attention heads"),
        ({"channel_mult": "0.01,1"}, "channel_mult 0.01 of 32 channels leaves none"),
        ({"diffusion_steps": 10**10}, "diffusion_steps|process.steps"),
        ({"num_res_blocks": 10**9}, "num_res_blocks 1000000000, expected a whole number from 1 to 100"),
    ],
)
def test_options_that_make_no_model_are_refused(change: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_config(TINY | change)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cls": "EncoderUNetModel"}, "cls='EncoderUNetModel' is not a diffusion U-Net"),
        ({"cls": "UNetModel", "conv_resample": False}, "conv_resample is not supported"),
        ({"cls": "UNetModel", "in_channels": 1}, "in_channels is not supported"),
        ({"cls": "UNetModel", "out_channels": 4}, "out_channels=4 is not supported"),
        ({"cls": "UNetModel", "image_size": "big", "attention_resolutions": [2]}, "image_size is 'big'"),
        ({"cls": "Text2ImUNet", "num_classes": 3}, "unknown option 'class_cond'"),
        ({"cls": "Text2ImUNet", "xf_heads": 7}, "text.width 512, expected a multiple of text.heads 7"),
        ({"cls": "UNetModel", "xf_ar": 0.5}, "xf_ar is not supported"),
    ],
)
def test_constructors_of_other_functions_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model_config(options)


def test_names_without_options_are_refused() -> None:
    with pytest.raises(InputError, match=r"mine.pt do not follow from its name.*base.pt, .*lsun_horse.pt"):
        options_for("folder/mine.pt")
    with pytest.raises(InputError, match="No such file"):
        load("folder/mine.pt")
    for name in ("256x256_classifier.pt", "clip_image_enc.pt"):
        with pytest.raises(InputError, match=f"{name} is a classifier or CLIP model; give a diffusion model"):
            options_for(name)


def test_options_as_typed() -> None:
    typed = "image_size=64, attention_resolutions=32,16,8,channel_mult=,learn_sigma=True,class_cond=false,dropout=0.1"
    expected = {
        "image_size": 64,
        "attention_resolutions": "32,16,8",
        "channel_mult": "",
        "learn_sigma": True,
        "class_cond": False,
        "dropout": 0.1,
    }
    assert parse_options(typed) == expected
    assert parse_options(json.dumps(expected)) == expected
    assert parse_options("upsample.pt") == options_for("upsample.pt")
    assert model_config(parse_options("attention_resolutions=16")).unet.attention == (4,)
    with pytest.raises(InputError, match="--options is not JSON"):
        parse_options("{image_size: 64}")
    with pytest.raises(InputError, match="options of base do not follow"):
        parse_options("base")
