"""Students in the pipeline: guidance within one call, their own steps, and what they refuse."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.load import load_model, save_model
from glide.diffusion.samplers.ddpm_ddim import ddim
from glide.diffusion.timestep_spacing import space_timesteps
from glide.networks.config import ModelConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.student_config import StudentConfig
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from guidance.interpolation import BetweenPredictions
from support.models import CAPTIONS, randomised
from support.sample_script import call, pngs
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig
from toolkit.web.served_models import ServedModels

STUDENT = StudentConfig("halving", (1.0, 8.0), 4, "ddim", "trailing")


@pytest.fixture(scope="module")
def student(text_model: Model) -> Model:
    process = replace(text_model.config.process, prediction="x0", variance="fixed_small")
    config = replace(text_model.config, student=STUDENT, process=process)
    return randomised(Model(config, text_model.tokenizer), seed=21)


@pytest.fixture(scope="module")
def pipe(student: Model) -> Pipeline:
    return Pipeline(student, "student", call_size=2)


@contextmanager
def network_calls(pipe: Pipeline) -> Iterator[list[int]]:
    """The number of rows of each call of the U-Net."""
    rows: list[int] = []
    hook = pipe.unet.register_forward_hook(lambda net, inputs, output: rows.append(len(inputs[0])))
    try:
        yield rows
    finally:
        hook.remove()


def by_hand(model: Model, captions: list[str], w: float, seeds: list[int]) -> Tensor:
    """Four steps of DDIM with one evaluation each, without pipeline and guidance."""
    kept = space_timesteps(model.process, "4", "trailing")
    inputs = model.caption_batch(captions) | {"guidance_strength": torch.full((len(captions),), w)}
    x = torch.stack([torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds])

    class Denoised:
        grad, v = 0.0, None

        def __init__(self, x0: Tensor) -> None:
            self.x0 = x0

    def denoise(x: Tensor, t: int):  # type: ignore[no-untyped-def]
        output = model(x, torch.full((len(x),), t), inputs)[:, :3]
        return Denoised(output.clamp(-1, 1))

    with torch.no_grad():
        *_, final = ddim(model.process.respaced(kept), denoise, x, torch.zeros_like)
    return final


def test_guidance_is_one_call_of_as_many_rows_as_pictures_a_step(pipe: Pipeline) -> None:
    with network_calls(pipe) as rows:
        result = pipe(CAPTIONS[:2], guidance_scale=3.0, seed=5)
    assert rows == [2, 2, 2, 2]
    expected = by_hand(pipe.model, CAPTIONS[:2], 3.0, [5, 6])
    torch.testing.assert_close(result.tensors, expected, rtol=0, atol=1e-4)
    other = pipe(CAPTIONS[:2], guidance_scale=6.0, seed=5).tensors
    assert (other - result.tensors).abs().max() > 1e-2


def test_without_guidance_it_is_drawn_at_strength_1(pipe: Pipeline) -> None:
    plain = pipe(CAPTIONS[0], guidance_scale=1.0, seed=5).tensors
    torch.testing.assert_close(plain, by_hand(pipe.model, CAPTIONS[:1], 1.0, [5]), rtol=0, atol=1e-4)
    # an interval between the timesteps of its steps
    nowhere = pipe(CAPTIONS[0], guidances="cfg:5@30-40", guidance_scale=1.0, seed=5).tensors
    assert torch.equal(nowhere, plain)
    somewhere = pipe(CAPTIONS[0], guidances="cfg:5@40-60", guidance_scale=1.0, seed=5).tensors
    assert not torch.equal(somewhere, plain)


def test_a_strength_by_timestep_is_the_strength_of_each_step(pipe: Pipeline) -> None:
    constant = pipe(CAPTIONS[0], guidance_scale=lambda share: 4.0, seed=5).tensors
    assert torch.equal(constant, pipe(CAPTIONS[0], guidance_scale=4.0, seed=5).tensors)
    falling = pipe(CAPTIONS[0], guidance_scale=lambda share: 1.0 + 3.0 * share, seed=5).tensors
    assert not torch.equal(falling, constant)


def test_it_draws_in_its_own_steps_unless_others_are_asked_for(pipe: Pipeline) -> None:
    recipe = pipe(CAPTIONS[0], seed=1).recipes[0]
    assert (recipe["sampler"], recipe["steps"], recipe["spacing"]) == ("ddim", 4, "trailing")
    recipe = pipe(CAPTIONS[0], seed=1, num_inference_steps=6, sampler="unipc", spacing="karras").recipes[0]
    assert (recipe["sampler"], recipe["steps"], recipe["spacing"]) == ("unipc", 6, "karras")
    assert pipe(CAPTIONS[0], seed=1, num_inference_steps=2).recipes[0]["spacing"] == "trailing"


def test_the_page_offers_its_own_steps(pipe: Pipeline, text_model: Model) -> None:
    models = ServedModels(
        {"student": "student", "text": "text"}, pipes={"student": pipe, "text": Pipeline(text_model)}
    )
    assert models.about("student")["own"] == {"sampler": "ddim", "steps": "4", "spacing": "trailing"}
    assert "own" not in models.about("text")


def test_settings_of_other_models_are_as_before() -> None:
    usual = SamplingConfig().settled(ModelConfig())
    assert (usual.sampler, usual.respacing, usual.spaced) == ("dpmpp-2m", "20", "log-snr")
    assert SamplingConfig().settled(ModelConfig(low_res=True)).respacing == "8"


@pytest.mark.parametrize("scale", [0.5, 9.0, lambda share: 20.0 * share])
def test_a_strength_outside_of_its_training_is_refused(pipe: Pipeline, scale: object) -> None:
    with pytest.raises(InputError, match="trained on 1 to 8"):
        pipe(CAPTIONS[0], guidance_scale=scale)


def test_negative_captions_and_projection_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="negative caption 'blue' for a student"):
        pipe(CAPTIONS[0], negative_prompt="blue")
    with pytest.raises(InputError, match="expected cfg"):
        pipe(CAPTIONS[0], guidances="apg:3")


def test_other_guidances_act_beside_it(pipe: Pipeline) -> None:
    guided = pipe(CAPTIONS[0], guidance_scale=3.0, seed=5).tensors
    with network_calls(pipe) as rows:
        both = pipe(CAPTIONS[0], guidance_scale=3.0, guidances=["pag:2", "cads:0.2"], seed=5).tensors
    assert not torch.equal(both, guided)
    assert len(rows) == 8  # the perturbed network has a call of its own


def test_references_of_the_student_have_the_strength_too(pipe: Pipeline) -> None:
    """Between two captions at a share of 1 lies the guided picture of the second."""
    requests = [ImageRequest(5, CAPTIONS[0])]
    run = pipe.for_run(1)
    other = run.conditioner.of([ImageRequest(5, CAPTIONS[1])])
    between = BetweenPredictions(1.0, other, torch.ones(1))
    settings = SamplingConfig(guidance="cfg", scale=4.0)
    *_, found = run.draw(requests, settings, [between])
    *_, expected = run.draw([ImageRequest(5, CAPTIONS[1])], settings)
    torch.testing.assert_close(found.x, expected.x, rtol=0, atol=1e-3)


def test_known_pixels_and_a_start_picture_work_as_with_any_model(pipe: Pipeline) -> None:
    image, mask = torch.full((3, 8, 8), 0.25), torch.zeros(1, 8, 8)
    mask[:, :, :4] = 1
    request = ImageRequest(3, CAPTIONS[0], None, KnownPixels(image=image, mask=mask))
    *_, last = pipe.draw([request], SamplingConfig(scale=3.0))
    assert torch.equal(last.x[0, :, :, :4], image[:, :, :4]) and not torch.equal(
        last.x[0, :, :, 4:], image[:, :, 4:]
    )
    start = ImageRequest(3, CAPTIONS[0], None, KnownPixels(start=image))
    steps = list(pipe.draw([start], SamplingConfig(scale=3.0, strength=0.5)))
    assert len(steps) == 2 and not torch.equal(steps[-1].x[0], image)


def test_a_folder_holds_all_of_it_and_a_recipe_repeats_it(student: Model, tmp_path: Path) -> None:
    folder, a, b = (tmp_path / name for name in ("student", "a", "b"))
    save_model(folder, student, {"teacher": "shapes"})
    assert load_model(folder).config.student == STUDENT
    assert call("--model", folder, "--prompt", CAPTIONS[0], "--scale", "3", "--out", a) == 0
    recipe = read_recipe(a / pngs(a)[0])
    assert (recipe["sampler"], recipe["steps"], recipe["scale"]) == ("ddim", 4, 3.0)
    assert call("--like", a / pngs(a)[0], "--model", folder, "--out", b) == 0
    first, second = (load_png(one / pngs(one)[0]) for one in (a, b))
    assert torch.equal(first, second)


def load_png(path: Path) -> Tensor:
    return torch.from_numpy(np.array(Image.open(path)))
