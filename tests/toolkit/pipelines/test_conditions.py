"""Drawing from maps and pictures: the strengths of picture and words, files and arrays, and what does not fit."""

import dataclasses
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import save_model
from glide.diffusion.denoiser import Prediction
from glide.networks.conditioner import Conditioner
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from support.conditions import SIZE, conditioned_model, label_map
from support.latent import latent_model
from support.models import CAPTIONS, close
from support.sample_script import Capture, call, refused
from toolkit.pipelines.conditions import read_conditions, with_conditions
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED = CAPTIONS[0]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(conditioned_model(), dtype="float32")


def request(pipe: Pipeline, caption: str = RED, condition: object = None) -> list[ImageRequest]:
    condition = label_map() if condition is None else condition
    return with_conditions([ImageRequest(0, caption)], read_conditions(condition, pipe.model))


def one_step(pipe: Pipeline, pictures: list[ImageRequest], *guidance: str, t: int = 60) -> torch.Tensor:
    """x0 of one guided step, without the bound of pixels."""
    settings = SamplingConfig(guidance=guidance or "none")
    loop = pipe.loop(pictures, settings)
    loop.denoise.x0_maps = []
    x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    real = loop.padding.real
    return loop.denoise(x.expand(len(loop.rows), -1, -1, -1).contiguous(), t).x0[real]


def test_picture_and_words_have_strengths_of_their_own(pipe: Pipeline) -> None:
    """Eq. 3 of 2211.09800, from four predictions of the network alone."""
    both, picture = one_step(pipe, request(pipe)), one_step(pipe, request(pipe, ""))
    neither = one_step(pipe, [ImageRequest(0)])
    assert len({float(x.sum()) for x in (both, picture, neither)}) == 3
    for words, strength in ((3.0, 1.5), (1.0, 4.0), (0.5, 0.25)):
        expected = neither + strength * (picture - neither) + words * (both - picture)
        for names in ((f"cfg:{words}", f"picture:{strength}"), (f"picture:{strength}", f"cfg:{words}")):
            torch.testing.assert_close(one_step(pipe, request(pipe), *names), expected, rtol=1e-4, atol=1e-4)


def test_strength_1_is_the_conditional_model_and_0_the_model_without_the_picture(pipe: Pipeline) -> None:
    both = one_step(pipe, request(pipe))
    assert torch.equal(one_step(pipe, request(pipe), "cfg:1", "picture:1"), both)
    without = pipe.draw([ImageRequest(3, RED)], SamplingConfig(respacing="4", guidance=("cfg:2",)))
    at_0 = pipe.draw(
        [replace(request(pipe)[0], seed=3)], SamplingConfig(respacing="4", guidance=("cfg:2", "picture:0"))
    )
    assert torch.equal([*without][-1].x, [*at_0][-1].x)


def test_a_model_begins_as_the_one_without_pictures() -> None:
    plain = conditioned_model((), null_condition=False)
    model = conditioned_model(("map:3", "image:1"))
    assert init_from(model, plain) == []
    x, t = torch.randn(1, 3, SIZE, SIZE), torch.tensor([50])
    seen = Conditioner(model).of([ImageRequest(0, RED, given=KnownPixels(conditions=arrays(model)))])
    expected = plain.unet(x, t, Conditioner(plain).of([ImageRequest(0, RED)]))
    torch.testing.assert_close(model.unet(x, t, seen), expected, rtol=1e-5, atol=1e-5)
    # and weights of the same kinds go over
    assert init_from(conditioned_model(("image:1", "map:3")), model) == []


def arrays(model: Model) -> dict[str, torch.Tensor]:
    given = {"map": label_map(), "image": label_map(1)}
    (found,) = read_conditions({name: given[name] for name in ("map", "image")}, model)
    return {one.kind.key: one.stored for one in found}


def test_a_share_of_the_pictures_is_left_out_in_training() -> None:
    model = conditioned_model(("map:3", "image:1"))
    seen: list[dict[str, torch.Tensor]] = []
    model.forward = lambda x, t, inputs: seen.append(inputs) or torch.zeros(len(x), 6, SIZE, SIZE)  # type: ignore[assignment, func-returns-value]
    batch = {
        "image": torch.zeros(400, 3, SIZE, SIZE),
        "caption": [RED] * 400,
        "condition.map": torch.zeros(400, 1, SIZE, SIZE, dtype=torch.uint8),
        "condition.image": torch.zeros(400, 1, SIZE, SIZE, dtype=torch.uint8),
    }
    t = torch.zeros(400, dtype=torch.int64)
    DiffusionObjective(null_captions=0.2, null_conditions=0.3)(model, batch, t, RowRng(0, range(400)))
    (inputs,) = seen
    left_out = {key: ~inputs[key].flatten(1).any(1) for key in ("condition.map", "condition.image")}
    both = left_out["condition.map"] & left_out["condition.image"]
    # all with 0.3, and each alone with 0.3 of the rest
    for key, rows in left_out.items():
        assert 0.43 < rows.float().mean() < 0.59, key
    assert 0.27 < both.float().mean() < 0.47
    null = (inputs["tokens"] == model.caption_batch([""])["tokens"]).all(1)
    assert 0.14 < null.float().mean() < 0.26 and abs(float((null & both).float().mean()) - 0.37 * 0.2) < 0.05


def test_a_model_of_latents_receives_every_pixel_of_a_condition() -> None:
    model = latent_model(conditions=("image:1",), null_condition=True)
    pipe = Pipeline(model, dtype="float32")
    drawn = [pipe(RED, seed=0, num_inference_steps=2, output_type="pt").images]
    for x in (0, 31):
        pixels = np.zeros((32, 32), np.uint8)
        pixels[0, x] = 255
        drawn.append(pipe(RED, seed=0, num_inference_steps=2, condition=pixels, output_type="pt").images)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])


def test_files_arrays_and_tensors_are_read_alike(pipe: Pipeline, tmp_path: Path) -> None:
    image = label_map()
    image.save(tmp_path / "map.png")
    coloured = Image.frombytes("P", image.size, image.tobytes())
    coloured.putpalette([7, 8, 9] * 256)
    numbers = np.array(image)
    ways = (
        str(tmp_path / "map.png"),
        image,
        coloured,
        numbers,
        torch.from_numpy(numbers)[None],
        {"map": numbers},
    )
    found = [read_conditions(way, pipe.model)[0][0].stored for way in ways]
    assert all(torch.equal(found[0], one) for one in found)
    several = pipe([RED, CAPTIONS[1]], seed=0, num_inference_steps=2, condition=[image, label_map(1)])
    alone = pipe(CAPTIONS[1], seed=1, num_inference_steps=2, condition=label_map(1))
    close(several.tensors[1:], alone.tensors)
    assert several.recipes[0]["condition_sha256"] != several.recipes[1]["condition_sha256"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_model(tmp_path / "model", conditioned_model())
    label_map().save(tmp_path / "map.png")
    return tmp_path


def test_the_script_draws_from_a_file_and_repeats_it(folder: Path, capsys: Capture) -> None:
    base = ("--model", folder / "model", "--prompt", RED, "--steps", "3", "--dtype", "float32")
    command = (*base, "--condition", folder / "map.png", "--guidance", "cfg:2", "--guidance", "picture:1.5")
    assert call(*command, "--out", folder / "one") == 0
    recipe = read_recipe(folder / "one/00000.png")
    assert recipe["condition"] == [f"map={folder / 'map.png'}"] and "picture:1.5" in recipe["guidance"]
    again = ("--like", folder / "one/00000.png", "--model", folder / "model")
    assert call(*again, "--condition", f"map={folder / 'map.png'}", "--out", folder / "two") == 0
    assert call(*again, "--trust-recipe", "--out", folder / "three") == 0
    pictures = [np.array(Image.open(folder / name / "00000.png")) for name in ("one", "two", "three")]
    assert (pictures[0] == pictures[1]).all() and (pictures[0] == pictures[2]).all()
    assert call(*base, "--out", folder / "without") == 0
    assert (np.array(Image.open(folder / "without/00000.png")) != pictures[0]).any()
    label_map(5).save(folder / "map.png")
    capsys.readouterr()
    refused(call(*again, "--trust-recipe", "--out", folder / "four"), capsys, "is not the one any more")
    refused(call("--like", folder / "one/00000.png", "--out", folder / "five"), capsys, "--condition map=")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda image: image.point(lambda p: p + 2), "map with the class 4, expected 0 to 2"),
        (lambda image: image.convert("LA"), "map with an alpha channel"),
        (lambda image: image.convert("RGB"), "map of colours"),
    ],
)
def test_unfit_maps(folder: Path, capsys: Capture, change, message: str) -> None:
    change(label_map()).save(folder / "bad.png")
    code = call("--model", folder / "model", "--condition", folder / "bad.png", "--out", folder / "out")
    refused(code, capsys, f"{folder / 'bad.png'} is a {message}")
    assert not (folder / "out").exists()


def test_unfit_conditions(folder: Path, pipe: Pipeline, capsys: Capture) -> None:
    model, file = ("--model", folder / "model"), ("--condition", folder / "map.png")
    for flags, message in (
        (file, "conditioned on no picture"),
        (("--guidance", "picture:2"), "conditioned on no picture"),
        ((*model, "--prompt", RED, "--guidance", "picture:2"), "without a condition"),
        ((*model, "--prompt", RED, *file, *file), "two conditions of the kind map"),
        ((*model, "--prompt", RED, "--condition", folder / "none.png"), "none.png"),
    ):
        refused(call(*flags, "--steps", "2", "--out", folder / "out"), capsys, message)
        assert not (folder / "out").exists()
    with pytest.raises(InputError, match="expected map"):
        pipe(RED, condition={"edges": label_map()})
    with pytest.raises(InputError, match="class numbers"):
        pipe(RED, condition=np.zeros((8, 8, 3), np.uint8))
    image = Image.new("RGB", (8, 8))
    with pytest.raises(InputError, match="a mask_image and a condition"):
        pipe(RED, image=image, mask_image=Image.new("L", (8, 8), 255), condition=label_map())
    needs = Pipeline(conditioned_model(null_condition=False))
    with pytest.raises(InputError, match="no condition for a model that needs one"):
        needs(RED, num_inference_steps=1)
    with pytest.raises(InputError, match="always given its pictures"):
        needs(RED, num_inference_steps=1, condition=label_map(), guidances=["picture:2"])
    several = Pipeline(conditioned_model(("map:3", "image:1")))
    with pytest.raises(InputError, match="expected a dictionary of them"):
        several(RED, condition=label_map())
    with pytest.raises(InputError, match="two conditions of one kind"):
        dataclasses.replace(several.model.config, conditions=("map:3", "map:4")).check()


def test_other_sizes_are_said(pipe: Pipeline) -> None:
    with pytest.warns(UserWarning, match="is 8x12: its middle square"):
        read_conditions(label_map().resize((8, 12)), pipe.model)
    with pytest.warns(UserWarning, match="64x64: it is scaled to the model's 8x8"):
        large = read_conditions(label_map().resize((64, 64), Image.Resampling.NEAREST), pipe.model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        small = read_conditions(label_map(), pipe.model)
    assert torch.equal(large[0][0].stored, small[0][0].stored)


def test_the_guidance_is_silent_at_1(pipe: Pipeline) -> None:
    loop = pipe.loop(request(pipe), SamplingConfig(guidance=("picture:1",)))
    (guidance,) = loop.denoise.guidances
    assert not guidance.active(50) and isinstance(loop.denoise(torch.zeros(1, 3, SIZE, SIZE), 9), Prediction)
