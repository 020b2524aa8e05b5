"""Features of named blocks, read and changed while a pipeline draws."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glide.diffusion.samplers.registry import SAMPLERS
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.images import save_png, to_uint8
from support.models import CAPTIONS
from support.sample_script import call as sample
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE, _ = CAPTIONS
NAMES = ("down.0", "down.1", "down.2", "middle", "up.0", "up.1", "up.2", "up.3")


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    return Pipeline(text_model, call_size=2)


def draw(pipe: Pipeline, *prompts: str, **keywords: Any) -> Tensor:
    keywords = {"seed": 0, "num_inference_steps": 2} | keywords
    return pipe(list(prompts) or [RED], **keywords).tensors  # type: ignore[no-any-return]


def same(h: Tensor, t: int) -> Tensor:
    return h


def zero(h: Tensor, t: int) -> Tensor:
    return 0 * h


@pytest.mark.parametrize("sampler", list(SAMPLERS))
@pytest.mark.parametrize("guidances", [["cfg:3"], ["pag:2"]], ids=str)
def test_reading_changes_nothing_and_a_change_does(
    pipe: Pipeline, sampler: str, guidances: list[str]
) -> None:
    keywords = {"sampler": sampler, "guidances": guidances, "guidance_scale": 1.0}
    plain = draw(pipe, **keywords)
    with pipe.features() as f:
        assert torch.equal(draw(pipe, **keywords), plain)
        process = pipe.process(SamplingConfig(sampler, "2"))
        assert set(f["middle"]) == set(process.timesteps.tolist())
        for name in NAMES:
            f.change(name, same)
        assert torch.equal(draw(pipe, **keywords), plain)
        f.change("middle", zero)
        assert not torch.equal(draw(pipe, **keywords), plain)
    assert torch.equal(draw(pipe, **keywords), plain)


def test_features_are_those_of_the_pictures_in_their_order(pipe: Pipeline, text_model: Model) -> None:
    """Three pictures in calls of two, at another place of the first call, with guidance: one row a picture."""
    settings = SamplingConfig("ddim", "2", 0.0, "cfg", 3.0)
    pictures = [ImageRequest(seed, caption) for seed, caption in enumerate(CAPTIONS)]
    alone: dict[str, list[Tensor]] = {name: [] for name in NAMES}
    t = int(pipe.process(settings).timesteps[-1])
    single = Pipeline(text_model, call_size=1)
    for picture in pictures:
        with single.features(*NAMES) as f:
            list(single.draw([picture], settings))
        for name in NAMES:
            alone[name].append(f[name][t])
    for place in (0, 1):
        with pipe.features() as f:
            list(pipe.draw(pictures, settings, place=place))
        assert f.names == NAMES
        for name in NAMES:
            assert len(f[name]) == 2
            torch.testing.assert_close(f[name][t], torch.cat(alone[name]), rtol=1e-3, atol=1e-3)


def test_they_are_the_blocks_own_outputs(pipe: Pipeline) -> None:
    model = pipe.model
    settings = SamplingConfig("ddim", "2", 0.0, "none")
    loop = pipe.loop([ImageRequest(0, RED)] * 2, settings)
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x = x.contiguous(memory_format=torch.channels_last)
    seen: list[Tensor] = []
    with torch.no_grad():
        hook = pipe.unet.middle_out.register_forward_hook(lambda module, args, out: seen.append(out.clone()))
        with pipe.features("middle") as f:
            watched = pipe.loop([ImageRequest(0, RED)] * 2, settings)
            assert torch.equal(watched.denoise(x, 99).x0, loop.denoise(x, 99).x0)
        hook.remove()
    assert torch.equal(f["middle"][99], seen[0]) and torch.equal(seen[0], seen[1])
    assert f["middle"][99].shape == (2, model.config.unet.channels * 2, 4, 4)


def test_features_put_into_another_drawing(pipe: Pipeline) -> None:
    """With the features of all blocks the decoder draws the other picture's prediction, row by row."""
    with pipe.features() as f:
        source = draw(pipe, RED, SQUARE, RED, guidance_scale=1.0, sampler="ddim", num_inference_steps=1)
    kept = {name: f[name] for name in f.names}
    with pipe.features() as g:
        for name, features in kept.items():
            g[name] = features
        put = draw(
            pipe, SQUARE, RED, SQUARE, guidance_scale=1.0, sampler="ddim", num_inference_steps=1, seed=0
        )
        assert not torch.equal(g["up.0"][99], kept["up.0"][99])  # read as the block made them
    # one step from the same noise, and the decoder's last block is the source's
    assert torch.equal(put, source)
    with pipe.features("up.3") as g:
        g["up.3"] = {99: kept["up.3"][99][:1]}  # one picture's for all
        put = draw(pipe, SQUARE, SQUARE, guidance_scale=1.0, sampler="ddim", num_inference_steps=1)
    assert torch.equal(put[0], source[0]) and not torch.equal(put[1], source[1])


def test_nested_blocks_follow_each_other(pipe: Pipeline) -> None:
    plain = draw(pipe)
    with pipe.features("middle") as outer:
        outer.change("middle", zero)
        with pipe.features("middle", "up.0") as inner:
            changed = draw(pipe)
            assert not torch.equal(changed, plain)
            assert all(bool((h == 0).all()) for h in inner["middle"].values())
            assert all(bool((h != 0).any()) for h in outer["middle"].values())
        assert torch.equal(draw(pipe), changed)
    with pytest.raises(RuntimeError), pipe.features("middle") as f:
        f.change("middle", zero)
        raise RuntimeError
    assert torch.equal(draw(pipe), plain)


def test_other_threads_do_not_see_it(pipe: Pipeline) -> None:
    plain = draw(pipe)
    found: list[Tensor] = []
    with pipe.features("middle") as f:
        f.change("middle", zero)
        thread = threading.Thread(target=lambda: found.append(draw(pipe)))
        thread.start()
        thread.join()
        assert not torch.equal(draw(pipe), plain)
    assert torch.equal(found[0], plain)


def test_recipes_say_so(pipe: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pipe.features("middle") as f:
        assert "made_by" not in pipe(RED, seed=0, num_inference_steps=2).recipes[0]
        f.change("middle", same)
        result = pipe(RED, seed=0, num_inference_steps=2)
    assert result.recipes[0]["made_by"] == "Python, with changed features of middle"
    save_png(tmp_path / "x.png", to_uint8(result.tensors)[0], result.recipes[0])
    assert sample("--like", tmp_path / "x.png", "--trust-recipe", "--out", tmp_path / "o") == 2
    assert "changed features of middle, which --like does not repeat" in capsys.readouterr().err


def test_what_cannot_be_is_refused(pipe: Pipeline, text_model: Model) -> None:
    unknown = r"got the block 'mid', expected one of down\.0.*mean 'middle'\?"
    with pytest.raises(InputError, match=unknown), pipe.features("mid"):
        pass
    with pipe.features("middle") as f:
        with pytest.raises(InputError, match=r"draw within"):
            f["middle"]
        with pytest.raises(InputError, match=r"'up\.0', expected one of middle"):
            f["up.0"]
        with pytest.raises(InputError, match=r"Tensor as features of middle"):
            f["middle"] = torch.zeros(1)  # type: ignore[assignment]
        with pytest.raises(InputError, match=r"--deep-every 3, which leaves deep blocks out"):
            list(pipe.draw([ImageRequest(0, RED)], SamplingConfig("ddim", "2", deep_every=3)))
        f.change("middle", lambda h, t: h[:, :1])
        with pytest.raises(
            InputError, match=r"got features of \(1, 1, 4, 4\) for middle at timestep 98, expected"
        ):
            draw(pipe)
    tiled = Pipeline(text_model, wrap=lambda network, model: network)
    with pytest.raises(InputError, match="runs in tiles"), tiled.features():
        pass
