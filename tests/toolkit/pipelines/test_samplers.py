"""Solvers and spacings by name: with every use of the pipeline, and on the command lines."""

from pathlib import Path

import pytest
import torch

from glide.diffusion.samplers.registry import (
    DEFAULT_SAMPLER,
    DEFAULT_STEPS,
    OWN,
    SAMPLERS,
    SPACINGS,
)
from glide.diffusion.timestep_spacing import SPACINGS as FORMULAS
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.images import read_recipe
from guidance import LogLikelihood
from support.interpolate_script import call as interpolate
from support.interpolate_script import photo
from support.models import CAPTIONS, close
from support.sample_script import Capture, call, pngs, refused
from toolkit import Pipeline
from toolkit.commands.inpaint_flags import Inpaint
from toolkit.commands.interpolate_flags import Interpolate
from toolkit.commands.judged_flags import JudgedRun
from toolkit.commands.sample import batches
from toolkit.commands.sample_flags import Sample
from toolkit.commands.upsample_flags import Upsample
from toolkit.commands.upscale_flags import StageArgs
from toolkit.pipelines.settings import SamplingConfig
from toolkit.pipelines.upscale import DEFAULT_CONFIG as ENLARGING
from toolkit.pipelines.upscale import Upscaler
from upsampler.tiling import in_tiles

RED, SQUARE = CAPTIONS[:2]
NEW = [name for name in SAMPLERS if name not in ("ddim", "ddpm")]
every_new = pytest.mark.parametrize("sampler", NEW)


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    return Pipeline(text_model, "tiny", call_size=3)


def test_names_have_functions_and_defaults_one_place() -> None:
    assert set(SPACINGS) == {"uniform", *FORMULAS} and DEFAULT_SAMPLER in SAMPLERS
    assert {sampler.spacing for sampler in SAMPLERS.values()} <= set(SPACINGS)
    defaults = [SamplingConfig().sampler, Sample().sampler, JudgedRun().sampler]
    defaults += [Inpaint("x", "y").sampler, Interpolate("x").sampler]
    defaults += [Upsample("x").sampler, StageArgs().upsample_sampler]
    assert set(defaults) == {OWN}
    usual = [SamplingConfig().settled(ModelConfig()), Sample().settings(False).settled(ModelConfig())]
    assert {(one.sampler, one.respacing) for one in usual} == {(DEFAULT_SAMPLER, str(DEFAULT_STEPS))}
    assert (
        SamplingConfig("dpmpp-2m", "20").spaced == "log-snr"
        and SamplingConfig("ddim", "20").spaced == "uniform"
    )
    enlarging = ENLARGING.settled(ModelConfig(low_res=True))
    assert (enlarging.respacing, enlarging.spaced) == ("8", "log-snr")
    assert SamplingConfig("dpmpp-2m", "fast27").spaced == "uniform"
    assert SamplingConfig("dpmpp-2m", "20", spacing="trailing").spaced == "trailing"


@pytest.mark.slow
@every_new
def test_the_same_picture_whatever_the_batch(pipe: Pipeline, sampler: str) -> None:
    settings = SamplingConfig(sampler, "5", spacing="log-snr")
    pictures = [ImageRequest(i, CAPTIONS[i % 3]) for i in range(5)]

    def run(size: int, some: list[ImageRequest] = pictures, place: int = 0) -> torch.Tensor:
        parts = []
        for start, batch in batches(some, size, pipe.call_size, place):
            *_, last = pipe.draw(batch, settings, place=place + start)
            parts.append(last.x)
        return torch.cat(parts)

    whole = run(100)
    assert torch.isfinite(whole).all() and whole.abs().max() < 2
    assert torch.equal(whole, run(1)) and torch.equal(whole[4:5], run(1, pictures[4:5], place=4))


@pytest.mark.slow
def test_solvers_without_noise_agree_and_differ_from_those_with(pipe: Pipeline) -> None:
    def drawn(sampler: str) -> torch.Tensor:
        return pipe(RED, num_inference_steps=90, sampler=sampler, seed=0, guidance_scale=1.0).tensors

    reference = drawn("ddim")
    close(drawn("euler"), reference)
    far = {
        name: float((drawn(name) - reference).square().mean().sqrt()) for name in ("dpmpp-2m", "dpmpp-2m-sde")
    }
    assert far["dpmpp-2m"] < far["dpmpp-2m-sde"] / 2, far


@pytest.mark.slow
@every_new
def test_a_gradient_is_seen_by_each_picture(pipe: Pipeline, sampler: str) -> None:
    pull = LogLikelihood(lambda x, t: 0.3 * x.flatten(1).sum(1), 1.0)
    settings = SamplingConfig(sampler, "6", 0.0, "cfg:2", spacing="trailing")
    pictures = [ImageRequest(i, RED) for i in range(2)]
    *_, plain = pipe.draw(pictures, settings)
    *_, led = pipe.draw(pictures, settings, [pull])
    assert (
        torch.isfinite(led.x).all() and (led.x - plain.x).abs().max() > 0.01
    )  # how much: tests/glide/diffusion/samplers/test_solvers.py
    *_, alone = pipe.draw(pictures[1:], settings, [pull], place=1)
    assert torch.equal(alone.x[0], led.x[1])


@pytest.mark.slow
@every_new
def test_known_pixels_stay(pipe: Pipeline, sampler: str) -> None:
    image, mask = torch.rand(3, 8, 8) * 2 - 1, torch.zeros(1, 8, 8)
    mask[:, :, :5] = 1
    pictures = [ImageRequest(i, RED, given=KnownPixels(image=image, mask=mask)) for i in range(2)]
    # not at the noisiest timestep: what does not fade there takes x0 out of every bound
    pull = LogLikelihood(lambda x, t: 0.3 * x.flatten(1).sum(1), 1.0, (0, 80))
    for resamplings in (1, 2):
        settings = SamplingConfig(sampler, "5", 0.0, "cfg:2", jump=2, resamplings=resamplings)
        *_, step = pipe.draw(pictures, settings, [pull])
        assert torch.equal(step.x[..., :5], image[..., :5].expand(2, -1, -1, -1))
        assert torch.isfinite(step.x).all() and not torch.equal(step.x[0], step.x[1])


@every_new
def test_a_run_that_begins_with_a_picture(pipe: Pipeline, sampler: str) -> None:
    start = torch.rand(3, 8, 8) * 2 - 1
    pictures = [ImageRequest(0, RED, given=KnownPixels(start=start))]
    settings = SamplingConfig(sampler, "10", 0.0, "none", strength=0.45, spacing="karras")
    steps = list(pipe.draw(pictures, settings))
    assert steps[0].t < 45 and 2 < len(steps) == pipe.steps(settings) < 10
    assert torch.isfinite(steps[-1].x).all()


@pytest.mark.slow
@every_new
def test_an_upsampler_draws_by_it(upsampler_model: Model, sampler: str) -> None:
    pipe = Pipeline(upsampler_model, call_size=1, wrap=in_tiles)
    stage = Upscaler(pipe, SamplingConfig(sampler, "3", guidance="none", spacing="quadratic"))
    pixels = torch.randint(0, 256, (10, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    large = stage.enlarged(pixels, ImageRequest(0, RED))
    assert large.shape == (40, 32, 3) and torch.equal(large, stage.enlarged(pixels, ImageRequest(0, RED)))
    assert not torch.equal(large, stage.enlarged(pixels, ImageRequest(1, RED)))


# --- command lines --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [*NEW, "ddpm"])
def test_recipes_repeat_it(text_folder: Path, tmp_path: Path, sampler: str) -> None:
    flags = ["--model", text_folder, "--prompt", SQUARE, "--num-samples", 2, "--steps", 3, "--call-size", 2]
    assert call(*flags, "--sampler", sampler, "--spacing", "karras", "--out", tmp_path / "a") == 0
    recipe = read_recipe(tmp_path / "a/00001.png")
    assert (recipe["sampler"], recipe["spacing"], recipe["respacing"]) == (sampler, "karras", "3")
    assert call("--trust-recipe", "--like", tmp_path / "a/00001.png", "--out", tmp_path / "b") == 0
    assert (tmp_path / "b/00000.png").read_bytes() == (tmp_path / "a/00001.png").read_bytes()


@pytest.mark.slow
def test_what_takes_the_place_of_a_recipes_spacing(text_folder: Path, tmp_path: Path) -> None:
    first = tmp_path / "00000.png"
    flags = ["--model", text_folder, "--prompt", RED, "--steps", 3, "--spacing", "trailing"]
    assert call(*flags, "--out", tmp_path) == 0
    changes = (["--steps", 2], ["--respacing", "2,1"], ["--spacing", "log-snr"], ["--spacing", "uniform"])
    for change in changes:
        assert call("--trust-recipe", "--like", first, "--out", tmp_path, *change) == 0
    told = [read_recipe(tmp_path / name).get("spacing") for name in pngs(tmp_path)]
    assert told == ["trailing", "trailing", None, "log-snr", None]


@pytest.mark.slow
def test_recipes_of_a_cascade(text_folder: Path, upsampler_folder: Path, tmp_path: Path) -> None:
    flags = [
        "--model",
        text_folder,
        "--size",
        32,
        "--upsampler",
        upsampler_folder,
        "--steps",
        2,
        "--prompt",
        RED,
    ]
    flags += ["--upsample-steps", 3, "--upsample-sampler", "unipc", "--upsample-spacing", "trailing"]
    assert call(*flags, "--out", tmp_path / "a") == 0
    stage = read_recipe(tmp_path / "a/00000.png")["upsampler"]
    assert (stage["sampler"], stage["spacing"]) == ("unipc", "trailing")
    assert call("--trust-recipe", "--like", tmp_path / "a/00000.png", "--out", tmp_path / "b") == 0
    assert (tmp_path / "b/00000.png").read_bytes() == (tmp_path / "a/00000.png").read_bytes()
    again = [
        "--trust-recipe",
        "--like",
        tmp_path / "a/00000.png",
        "--out",
        tmp_path / "b",
        "--upsample-respacing",
        "2,1",
    ]
    assert call(*again) == 0
    assert "spacing" not in read_recipe(tmp_path / "b/00001.png")["upsampler"]


@pytest.mark.slow
def test_between_pictures(class_folder: Path, tmp_path: Path) -> None:
    ends = ["--image", photo(tmp_path / "a.png"), "--image", photo(tmp_path / "b.png", seed=1)]
    flags = ["--model", class_folder, *ends, "--frames", 3, "--steps", 4, "--spacing", "log-snr"]
    ddpm = ["--method", "ddpm", "--sampler", "dpmpp-2m"]
    assert interpolate(*flags, *ddpm, "--out", tmp_path / "mixed.png") == 0
    recipe = read_recipe(tmp_path / "mixed.png")
    assert (recipe["sampler"], recipe["spacing"]) == ("dpmpp-2m", "log-snr")
    assert interpolate(*flags, "--out", tmp_path / "inverted.png") == 0


def test_a_spacing_that_does_not_fit_the_upsampler(
    text_folder: Path, upsampler_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    flags = ["--model", text_folder, "--size", 32, "--upsampler", upsampler_folder, "--prompt", RED]
    flags += ["--upsample-respacing", "fast27", "--upsample-spacing", "karras", "--out", tmp_path / "o"]
    refused(call(*flags), capsys, "'karras' for the respacing 'fast27'")
    refused(call("--model", text_folder, "--upsample-spacing", "karras"), capsys, "without --size")
    assert not (tmp_path / "o").exists()
