"""Upsamplers: their networks, what they are told, published ones, and measuring."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from glide.checkpoints.init_from import init_from
from glide.checkpoints.openai.convert import from_state_dict, mapping
from glide.checkpoints.openai.options import model_config
from glide.checkpoints.openai.releases import options_for
from glide.diffusion.conditioning import Conditioning
from glide.networks.blocks import TokenAttention
from glide.networks.conditioner import Conditioner
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.layers import PixelNorm
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from glide.utils.errors import InputError
from glide.utils.images import from_uint8
from support.models import CAPTIONS, close, randomised
from support.openai_nets import golden
from toolkit.commands.evaluate_upsampler import measure
from toolkit.commands.evaluate_upsampler_flags import EvaluateUpsampler
from toolkit.evaluation.upsampling import decibels
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import Upscaler
from upsampler.cascade import prepare
from upsampler.presets import UPSAMPLERS, check_upsampler
from upsampler.tiling import in_tiles

TINY = UPSAMPLERS["tiny-upsampler"]


@pytest.fixture
def tiny(upsampler_model: Model) -> Model:
    return upsampler_model


def stage_of(model: Model, **settings: object) -> Upscaler:
    pipe = Pipeline(model, call_size=1, wrap=in_tiles)
    return Upscaler(pipe, SamplingConfig("ddim", "3", guidance="none", **settings))  # type: ignore[arg-type]


def pixels(height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (height, width, 3), dtype=torch.uint8, generator=generator)


# --- the networks ---------------------------------------------------------------------------------------------------


def test_presets():
    sizes = {}
    for name, config in UPSAMPLERS.items():
        check_upsampler(config, name)
        with torch.device("meta"):
            sizes[name] = sum(p.numel() for p in Model(config).parameters())
        assert (
            config.unet.image_size % config.unet.factor == 0
            and config.low_res_size * 4 == config.unet.image_size
        )
    assert sizes["shapes-upsampler"] <= 7.0e6
    for name, file in (
        ("glide-upsampler", "upsample.pt"),
        ("adm-64-256", "64_256_upsampler.pt"),
        ("adm-128-512", "128_512_upsampler.pt"),
    ):
        assert UPSAMPLERS[name] == model_config(options_for(file)), name
    assert UPSAMPLERS["adm-128-512"].low_res_size == 128
    with pytest.raises(InputError, match="draws and does not enlarge"):
        check_upsampler(PRESETS["tiny"], "tiny")


def test_configurations_travel_through_json_and_old_ones_still_load():
    for config in (TINY, UPSAMPLERS["adm-128-512"]):
        assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    values = PRESETS["shapes-64"].to_dict()
    del values["scale"], values["low_res_noise"], values["unet"]["local"]
    assert ModelConfig.from_dict(values) == PRESETS["shapes-64"]


def test_pixel_norm_is_the_definition():
    norm, x = PixelNorm(6), torch.randn(2, 6, 4, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        norm.weight.copy_(torch.arange(6.0))
        norm.bias.fill_(0.5)
    mean, variance = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    expected = (x - mean) / (variance + 1e-5).sqrt() * torch.arange(6.0)[:, None, None] + 0.5
    for memory_format in (torch.contiguous_format, torch.channels_last):
        close(norm(x.contiguous(memory_format=memory_format)), expected)


@torch.no_grad()
def test_token_attention_is_the_definition():
    generator = torch.Generator().manual_seed(0)
    layer = TokenAttention(8, 2, 6)
    for p in layer.parameters():
        p.copy_(torch.randn(p.shape, generator=generator))
    x, tokens = torch.randn(2, 8, 3, 4, generator=generator), torch.randn(2, 5, 6, generator=generator)
    expected = x.clone()
    k, v = layer.token_kv(tokens).chunk(2, dim=-1)
    for n in range(2):
        for h in range(3):
            for w in range(4):
                q = layer.q(F.layer_norm(x[n, :, h, w], (8,), layer.norm.weight, layer.norm.bias))
                heads = [
                    torch.softmax(k[n, :, part] @ q[part] / 2.0, 0) @ v[n, :, part]
                    for part in (slice(0, 4), slice(4, 8))
                ]
                expected[n, :, h, w] += layer.proj(torch.cat(heads))
    torch.testing.assert_close(layer(x, layer.token_kv(tokens)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_local_network_trains(tiny: Model, dtype: torch.dtype):
    """Every weight gets a gradient, with and without autocast."""
    model = randomised(Model(tiny.config, tiny.tokenizer), seed=1).train()
    batch = model.caption_batch(CAPTIONS[:2]) | {
        "low_res": torch.randn(2, 3, 16, 16),
        "low_res_level": torch.tensor([0.0, 0.2]),
    }
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        out = model(torch.randn(2, 3, 16, 16), torch.tensor([3, 900]), batch)
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_without_captions_there_is_no_attention(tiny: Model):
    model = Model(dataclasses.replace(TINY, text=None))
    assert not [name for name, _ in model.named_modules() if name.endswith("attn")]
    assert [name for name, _ in tiny.named_modules() if name.endswith("attn")]
    low_res = KnownPixels(low_res=torch.zeros(3, 8, 8))
    with pytest.raises(InputError, match="do not attend to each other"):
        list(
            Pipeline(model).draw(
                [ImageRequest(0, given=low_res)], SamplingConfig("ddim", "2", guidance="pag")
            )
        )


# --- what they are told ---------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_level_begins_without_effect_and_is_learned():
    fresh = Model(dataclasses.replace(TINY, text=None))
    assert not any(p.any() for p in fresh.level_out.parameters())
    model = randomised(fresh, seed=0)
    for p in model.level_out.parameters():
        torch.nn.init.zeros_(p)
    x, t, low_res = torch.randn(1, 3, 32, 32), torch.tensor([500]), torch.randn(1, 3, 8, 8)
    levels = [{"low_res": low_res, "low_res_level": torch.tensor([level])} for level in (0.0, 0.3)]
    same = [model(x, t, batch) for batch in levels]
    assert torch.equal(*same) and torch.equal(same[0], model(x, t, {"low_res": low_res}))
    torch.nn.init.normal_(model.level_out.weight)
    assert not torch.equal(*(model(x, t, batch) for batch in levels))


@torch.no_grad()
def test_a_published_upsampler_takes_noise_without_changing():
    options, state, batch = golden("glide_upsampler")
    source = from_state_dict(state, options)
    told = Model(dataclasses.replace(source.config, low_res_noise=True)).eval()
    assert sorted(init_from(told, source)) == [
        f"level_{a}.{b}" for a in ("in", "out") for b in ("bias", "weight")
    ]
    output = told(batch["x"], batch["timesteps"], {**batch, "low_res_level": torch.tensor([0.0, 0.4])})
    torch.testing.assert_close(output, source(batch["x"], batch["timesteps"], batch), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_conditions_tell_each_picture_its_level(tiny: Model):
    conditions = Conditioner(tiny)
    pictures = [
        ImageRequest(i, "a red circle", given=KnownPixels(torch.zeros(3, 8, 8), noise=0.1 * i))
        for i in range(3)
    ]
    cond = conditions.of(pictures)
    assert cond.level is not None and cond.level.shape == (3, 128) and cond.planes.shape == (3, 3, 32, 32)
    for i in range(3):
        alone = {"low_res": torch.zeros(1, 3, 8, 8), "low_res_level": torch.tensor([0.1 * i])}
        assert torch.equal(cond.level[i : i + 1], tiny.condition_on_images(alone).level)
    # the null condition differs in words alone
    shared = conditions.null().sharing_planes(cond)
    assert torch.equal(shared.level, cond.level) and torch.equal(shared.planes, cond.planes)
    assert Conditioning.cat([cond, shared]).rows == 6
    untold = Model(dataclasses.replace(TINY, text=None, low_res_noise=False))
    with pytest.raises(InputError, match=r"noise 0\.1 for a model that does not receive the noise"):
        Conditioner(untold).of([ImageRequest(0, given=KnownPixels(torch.zeros(3, 8, 8), noise=0.1))])
    assert Conditioner(untold).of([ImageRequest(0, given=KnownPixels(torch.zeros(3, 8, 8)))]).level is None


def test_the_caption_and_the_noise_reach_the_picture(tiny: Model):
    stage = stage_of(tiny)
    first = stage.enlarged(pixels(), ImageRequest(0, "a red circle"))
    assert first.shape == (32, 32, 3) and torch.equal(
        first, stage.enlarged(pixels(), ImageRequest(0, "a red circle"))
    )
    other = [
        stage.enlarged(pixels(), ImageRequest(0, "a blue square")),
        stage.enlarged(pixels(), ImageRequest(1, "a red circle")),
        stage.enlarged(pixels(seed=1), ImageRequest(0, "a red circle")),
        dataclasses.replace(stage, noise=0.3).enlarged(pixels(), ImageRequest(0, "a red circle")),
        stage_of(tiny, temperature=0.9).enlarged(pixels(), ImageRequest(0, "a red circle")),
    ]
    assert not any(torch.equal(first, pixels) for pixels in other)


def test_guided(tiny: Model):
    stage = stage_of(tiny)
    scaled = [
        dataclasses.replace(
            stage, noise=0.2, settings=SamplingConfig("ddim", "2", guidance=guidance)
        ).enlarged(pixels(), ImageRequest(0, "a red circle"))
        for guidance in ("none", "cfg:1", "cfg:3")
    ]
    assert torch.equal(scaled[0], scaled[1]) and not torch.equal(scaled[0], scaled[2])


def test_the_temperature_multiplies_the_first_noise(tiny: Model):
    """Of a model that changes nothing (its x0 is 0), what is left after one step of two is the noise itself."""
    still = Model(dataclasses.replace(TINY, text=None)).eval()  # its head begins at zero
    picture = ImageRequest(4, given=KnownPixels(low_res=torch.zeros(3, 8, 8)))
    runs = [
        next(
            iter(Pipeline(still).draw([picture], SamplingConfig("ddim", "2", guidance="none", temperature=t)))
        ).x
        for t in (1.0, 0.5, 0.0)
    ]
    assert float(runs[0].std()) > 0.01
    torch.testing.assert_close(runs[1], 0.5 * runs[0])
    assert runs[2].abs().max() == 0
    for temperature in (-0.1, float("nan")):
        with pytest.raises(InputError, match="temperature"):
            SamplingConfig(temperature=temperature)
    recipe = Pipeline(still).recipe(
        picture, SamplingConfig("ddim", "2", guidance="none", temperature=0.997), 0
    )
    assert recipe["temperature"] == 0.997


# --- the cascade ----------------------------------------------------------------------------------------------------


def test_prepare_fits_and_noises() -> None:
    picture = pixels(5, 9)
    found = prepare(TINY, picture, seed=7)
    low_res = found.low_res
    assert (found.noise, found.size, found.crop) == (
        0.0,
        (24, 40),
        (20, 36),
    )  # the network takes multiples of 8
    assert torch.equal(low_res[:, :5, :9], from_uint8(picture[None])[0])
    assert torch.equal(low_res[:, 5], low_res[:, 4]) and torch.equal(low_res[:, :, 9], low_res[:, :, 8])
    # its noise is its own, of the seed alone
    assert found.seed != 7 and 0 <= found.seed < 2**63
    noised = prepare(TINY, picture, seed=7, noise=0.5)
    assert (noised.noise, noised.seed) == (0.5, found.seed)
    added = (noised.low_res - 0.75**0.5 * low_res) / 0.5
    assert 0.8 < float(added.std()) < 1.2 and abs(float(added.mean())) < 0.2
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(InputError, match="expected 0 to below 1"):
            prepare(TINY, picture, 0, wrong)


def test_the_result_is_cut_to_the_picture(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = stage_of(tiny)

    def draw(requests: Sequence[ImageRequest], settings: object, size: tuple[int, int]) -> list[Shown]:
        (request,) = requests
        assert request.given.low_res is not None
        return [Shown(F.interpolate(request.given.low_res[None], size, mode="nearest"))] * 2

    monkeypatch.setattr(stage.pipe, "draw", draw)
    picture = pixels(5, 9)
    first, last = stage.enlarge(picture, ImageRequest(7))
    assert torch.equal(last, F.interpolate(from_uint8(picture[None]), (20, 36), mode="nearest"))
    assert torch.equal(first, last)


@dataclasses.dataclass
class Shown:
    """A step, as far as an upsampler reads it."""

    x: Tensor


def test_a_network_that_is_not_local_receives_at_least_its_training_size() -> None:
    sizes = []
    for shape in ((64, 64), (1, 3), (70, 64), (20, 200)):
        found = prepare(UPSAMPLERS["glide-upsampler"], pixels(*shape), 0)
        assert found.crop == (4 * shape[0], 4 * shape[1])
        sizes.append(found.size)
    # below the model's own size up to it; above it to the next multiple of 32
    assert sizes == [(256, 256), (256, 256), (288, 256), (256, 800)]
    found = prepare(UPSAMPLERS["adm-128-512"], pixels(100, 128), 0)
    assert (found.size, found.crop) == ((512, 512), (400, 512))


def test_a_picture_that_would_be_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 32 * 32)
    with pytest.raises(InputError, match="9x8 pixels, which enlarged 4 times has more than 1024"):
        prepare(TINY, pixels(8, 9), 0)


@torch.no_grad()
def test_a_large_picture_comes_in_tiles_of_the_models_size(tiny: Model, monkeypatch: pytest.MonkeyPatch):
    forward, shapes = tiny.unet.forward, []

    def watched(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        shapes.append((tuple(x.shape), tuple(cond.planes.shape)))
        return forward(x, t, cond)

    monkeypatch.setattr(tiny.unet, "forward", watched)
    assert stage_of(tiny).enlarged(pixels(11, 20), ImageRequest(0)).shape == (44, 80, 3)
    assert set(shapes) == {((1, 3, 32, 32), (1, 3, 32, 32))}
    assert len(shapes) == 3 * 2 * 3  # three steps of two by three tiles


# --- published ones -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["upsample.pt", "upsample_inpaint.pt", "64_256_upsampler.pt", "128_512_upsampler.pt"]
)
def test_published_upsamplers_map_exactly_once(name: str):
    """tests/glide/checkpoints/openai/test_convert.py compares all names and shapes; here, that none is read twice and
    none is left.
    """
    sources = mapping(options_for(name))
    assert len({source.name for source in sources.values()}) == len(sources)
    config = model_config(options_for(name))
    with torch.device("meta"):
        assert {key for key, _ in Model(config).named_parameters()} == set(sources)
    assert (config.low_res, config.low_res_noise, config.scale) == (True, False, 4)


@pytest.mark.slow
def test_the_golden_upsampler_enlarges_through_the_cascade():
    options, state, _ = golden("glide_upsampler")
    model = from_state_dict(state, options)
    model.tokenizer = Tokenizer.train(CAPTIONS, vocab_size=280, context=model.config.text.context)  # type: ignore[union-attr]
    stage = stage_of(model)
    small = model.config.low_res_size
    large = stage.enlarged(pixels(small, small), ImageRequest(0, "a red circle"))
    assert large.shape == (model.config.unet.image_size,) * 2 + (3,) and large.float().std() > 1
    assert stage.enlarged(pixels(small + 3, 5), ImageRequest(0, "a red circle")).shape == (
        4 * small + 12,
        20,
        3,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("large", "small"), [(64, 16), (64, 32)])
def test_class_conditional_upsamplers(large: int, small: int):
    """ADM's, at a small size; the options tell how many times it enlarges."""
    options = {"large_size": large, "small_size": small, "num_channels": 32, "channel_mult": "1,1"}
    options |= {"num_res_blocks": 1, "attention_resolutions": "32", "num_head_channels": 16}
    options |= {"class_cond": True, "num_classes": 5, "learn_sigma": True}
    config = model_config(options)
    assert (config.scale, config.unet.image_size, config.low_res_size) == (large // small, large, small)
    generator = torch.Generator().manual_seed(0)
    state = {s.name: 0.1 * torch.randn(s.shape, generator=generator) for s in mapping(options).values()}
    stage = stage_of(from_state_dict(state, options))
    drawn = [stage.enlarged(pixels(small, small), ImageRequest(0, "not told", label)) for label in (0, 3)]
    assert drawn[0].shape == (large, large, 3) and not torch.equal(*drawn)
    with pytest.raises(InputError, match="got no class for a model that needs one"):
        stage.check([ImageRequest(0)])
    with pytest.raises(InputError, match="class 5 for an upsampler of 5 classes"):
        stage.check([ImageRequest(0, label=5)])
    with pytest.raises(InputError, match="large_size=64 is not a whole multiple of small_size=24"):
        model_config(options | {"small_size": 24})


# --- measuring ------------------------------------------------------------------------------------------------------


def test_decibels():
    assert decibels(255.0**2) == 0 and decibels(65.025) == pytest.approx(30.0) and decibels(0.0) == 120


def test_the_truth_is_better_than_the_filters(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """An upsampler that knows the scenes has no error; the filters have theirs."""
    from glide.shapes.dataset import held_out_scenes
    from glide.shapes.render import render

    args = EvaluateUpsampler(pictures=4, out=tmp_path, seed=1)
    scenes = held_out_scenes(4, seed=1)
    truths = {scene.caption: torch.from_numpy(render([scene], 32)[0]) for scene in scenes}
    errors = measure(args, TINY, lambda small, caption, seed: truths[caption])
    assert (
        errors["upsampler"].psnr == 120
        and 10 < errors["bicubic"].psnr < 40
        and 10 < errors["lanczos"].psnr < 40
    )
    said = capsys.readouterr().out
    assert "4 pictures from 8 to 32" in said and "bicubic    PSNR" in said
    with Image.open(tmp_path / "side-by-side.png") as sheet:
        assert sheet.size == (4 * 34 + 2, 4 * 34 + 2)
    figures = json.loads((tmp_path / "psnr.json").read_text())
    assert figures["bicubic"]["psnr"] == errors["bicubic"].psnr
    assert np.mean(figures["lanczos"]["squared_errors"]) > 0
    with pytest.raises(InputError, match="--pictures 0"):
        measure(dataclasses.replace(args, pictures=0), TINY, lambda *_: pixels())


def test_pictures_of_ones_own_are_reduced_by_blocks(tmp_path: Path) -> None:
    large = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    (tmp_path / "data").mkdir()
    for i, one in enumerate(large):
        Image.fromarray(one).save(tmp_path / f"data/{i}.png")
        (tmp_path / f"data/{i}.txt").write_text(f"picture {i}")
    seen: dict[str, torch.Tensor] = {}

    def enlarge(small: torch.Tensor, caption: str, seed: int) -> torch.Tensor:
        seen[caption] = small
        return torch.from_numpy(large[int(caption[-1])])

    args = EvaluateUpsampler(data=str(tmp_path / "data"), pictures=9, out=tmp_path / "out")
    errors = measure(args, TINY, enlarge)
    assert errors["upsampler"].psnr == 120 and len(errors["bicubic"].squared) == 3
    for i, one in enumerate(large):
        blocks = one.reshape(8, 4, 8, 4, 3).mean((1, 3))
        assert np.abs(seen[f"picture {i}"].numpy() - blocks).max() <= 1  # rounded along each axis
    with pytest.raises(InputError, match="nowhere"):
        measure(dataclasses.replace(args, data="nowhere", out=tmp_path / "x"), TINY, enlarge)
