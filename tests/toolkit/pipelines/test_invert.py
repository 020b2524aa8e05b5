"""DDIM inversion: against the exact solution of its equation for a Gaussian, and there and back."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from glide.diffusion.ddim_inversion import invert, picture_of, revert
from glide.diffusion.denoiser import Denoiser, Prediction, clamp, project
from glide.diffusion.noise_schedules import make_process
from glide.diffusion.process import Process, respacing
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance.classifier_free import ClassifierFree
from guidance.guided_denoiser import guide
from guidance.interpolation import BetweenConditions, BetweenPredictions, slerp
from support.models import CAPTIONS
from toolkit import Pipeline
from toolkit.pipelines.invert import decode, encode, psnr
from toolkit.pipelines.settings import SamplingConfig

MEAN, DEVIATION = 0.2, 0.4
RED, SQUARE = CAPTIONS[:2]


def process_of(steps: int, schedule: str = "squaredcos_cap_v2", strength: float = 1.0) -> Process:
    whole = make_process(schedule, 1000)
    return whole.respaced([t for t in respacing(str(steps), 1000) if t < strength * 1000])


def gaussian(process: Process) -> Denoiser:
    """The ideal denoiser of pixels N(MEAN, DEVIATION^2): DDPM's posterior mean in closed form."""
    alpha_bar = dict(zip(process.timesteps.tolist(), process.alpha_bar.tolist(), strict=True))

    def denoise(x: Tensor, t: int) -> Prediction:
        a = math.sqrt(alpha_bar[t])
        gain = a * DEVIATION**2 / (alpha_bar[t] * DEVIATION**2 + 1 - alpha_bar[t])
        return Prediction(MEAN + gain * (x - a * MEAN))

    return denoise


def exact(process: Process, x: Tensor) -> Tensor:
    """The latent at the last entry: the equation keeps how many deviations a pixel is from its mean."""
    first, last = float(process.alpha_bar[0]), float(process.alpha_bar[-1])
    there, here = (math.sqrt(a * DEVIATION**2 + 1 - a) for a in (last, first))
    return math.sqrt(last) * MEAN + (x - math.sqrt(first) * MEAN) * there / here


def pictures() -> Tensor:
    return torch.linspace(-1, 1, 2 * 3 * 4, dtype=torch.float64).view(2, 3, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_it_is_a_first_order_solver_of_ddims_equation(schedule: str) -> None:
    errors = []
    for steps in (50, 100, 200):
        process = process_of(steps, schedule, strength=0.9)
        *_, latent = invert(process, gaussian(process), pictures(), iterations=12)
        x = math.sqrt(process.alpha_bar[0]) * pictures()
        errors.append(float((latent - exact(process, x)).abs().max()))
    assert errors[2] < 0.1
    for coarse, fine in ((0, 1), (1, 2)):  # half the step, half the error
        assert 1.6 < errors[coarse] / errors[fine] < 2.6, errors


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["linear", "squaredcos_cap_v2"])
def test_there_and_back(schedule: str) -> None:
    process = process_of(50, schedule)
    denoise, found = gaussian(process), []
    for iterations in (1, 2, 3, 40):
        xs = list(invert(process, denoise, pictures(), iterations))
        assert len(xs) == len(process)
        back = list(revert(process, denoise, xs[-1]))
        assert len(back) == len(process) - 1
        found.append(float((picture_of(process, back[-1]) - pictures()).abs().max()))
    assert found[0] > 10 * found[1] > 10 * max(found[2:]) and max(found[2:]) < 1e-6, found
    # every state on the way back is that of the way there
    for up, down in zip(xs[-2::-1], back, strict=True):
        torch.testing.assert_close(down, up, rtol=0, atol=1e-6)


def test_one_step_and_no_step() -> None:
    process = process_of(1)
    (x,) = invert(process, gaussian(process), pictures())
    assert list(revert(process, gaussian(process), x)) == []
    torch.testing.assert_close(picture_of(process, x), pictures())
    with pytest.raises(InputError, match="0 network calls"):
        next(invert(process, gaussian(process), pictures(), 0))


# --- by a pipeline --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pipe(class_model: Model) -> Pipeline:
    return Pipeline(class_model, "classes", call_size=2)


def starts(count: int) -> list[ImageRequest]:
    draws = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return [ImageRequest(i, label=i, given=KnownPixels(start=one)) for i, one in enumerate(draws)]


@pytest.mark.slow
def test_a_latent_does_not_depend_on_what_stands_beside_it(pipe: Pipeline) -> None:
    settings = SamplingConfig("ddim", "5", 0.0, "cfg", 2.0)
    together, alone = encode(pipe, starts(3), settings), encode(pipe, starts(3)[:1], settings)
    assert together.shape == (3, 3, 8, 8) and torch.equal(together[:1], alone)
    rows = [replace(row, given=KnownPixels(latent=one)) for row, one in zip(starts(3), together, strict=True)]
    assert torch.equal(decode(pipe, rows, settings)[:1], decode(pipe, rows[:1], settings))


@pytest.mark.slow
def test_a_pipeline_gives_pictures_back(pipe: Pipeline) -> None:
    rows, settings = starts(2), SamplingConfig("ddim", "20", 0.0, "none", strength=0.5)
    ticks: list[int] = []
    latents = encode(pipe, rows, settings, 20, lambda: ticks.append(1))
    assert len(ticks) == 10 == pipe.steps(settings)
    found = [replace(row, given=KnownPixels(latent=one)) for row, one in zip(rows, latents, strict=True)]
    given = torch.stack([row.given.start for row in rows if row.given.start is not None])
    assert min(psnr(decode(pipe, found, settings), given)) > 30  # a random network is far from smooth
    # a latent is at its noise already: drawn on from there, it is that picture to the network
    *_, step = pipe.draw(found, settings)
    loop = pipe.loop(found, settings)
    last = loop.denoise(
        decode(pipe, found, settings) * math.sqrt(loop.process.alpha_bar[0]), int(loop.process.timesteps[0])
    )
    torch.testing.assert_close(step.x, last.x0, rtol=0, atol=1e-4)


def test_what_cannot_be_inverted(pipe: Pipeline) -> None:
    settings = SamplingConfig("ddim", "5", 0.0, "none")
    with pytest.raises(InputError, match="without a picture to begin with"):
        encode(pipe, [ImageRequest(0)], settings)
    with pytest.raises(InputError, match="4x4 pixels to begin with, expected 8x8"):
        encode(pipe, [ImageRequest(0, given=KnownPixels(start=torch.zeros(3, 4, 4)))], settings)
    with pytest.raises(InputError, match="with and without one"):
        encode(pipe, [*starts(1), ImageRequest(1)], settings)


# --- in between -----------------------------------------------------------------------------------------------------


def test_between_latents() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 3, 16, 16, generator=generator)
    assert torch.equal(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    assert float(slerp(a, b, 0.5).std()) == pytest.approx(1, abs=0.05)  # a straight line would have 0.7
    assert torch.equal(slerp(a, a, 0.3), a)
    torch.testing.assert_close(slerp(a, -a, 0.25), 0.5 * a)  # no arc: straight through


def test_between_conditions_and_predictions(text_model: Model) -> None:
    pipe = Pipeline(text_model, call_size=4)
    share = torch.tensor([0.0, 0.5, 1.0])
    other = pipe.conditioner.of([ImageRequest(0, SQUARE)])
    x = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0)).repeat_interleave(4, 0)[:12:4]
    x = x[:1].expand(3, -1, -1, -1)
    red, null = pipe.conditioner.of([ImageRequest(0, RED)] * 3), pipe.conditioner.null()
    from glide.diffusion.denoiser import Predictor

    predict = Predictor(text_model.unet, text_model.process)
    with torch.no_grad():
        ends = [guide(predict, pipe.conditioner.of([ImageRequest(0, c)] * 3), [ClassifierFree(3.0, null)])(x, 50).x0
                for c in (RED, SQUARE)]  # fmt: skip
        told = guide(predict, red, [BetweenConditions(other, share), ClassifierFree(3.0, null)])(x, 50).x0
        mixed = guide(
            predict,
            red,
            [
                ClassifierFree(3.0, null),
                BetweenPredictions(1.0, other, share),
                BetweenPredictions(2.0, other, share),
            ],
        )(x, 50).x0
    for found in (told, mixed):
        torch.testing.assert_close(found[0], ends[0][0], rtol=0, atol=1e-3)
        torch.testing.assert_close(found[2], ends[1][2], rtol=0, atol=1e-3)
    torch.testing.assert_close(mixed[1], (ends[0][1] + ends[1][1]) / 2, rtol=0, atol=1e-3)
    assert not torch.allclose(told[1], mixed[1], atol=1e-3)


@pytest.mark.slow
def test_a_clamped_denoiser_is_inverted_too() -> None:
    process = process_of(40)
    denoise = project(gaussian(process), clamp)
    *_, latent = invert(process, denoise, pictures(), 30)
    *_, back = revert(process, denoise, latent)
    torch.testing.assert_close(picture_of(process, back), pictures(), rtol=0, atol=1e-5)
