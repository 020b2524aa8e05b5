"""The words that users of diffusers bring: the same names mean the same, others are answered with the right word."""

import copy
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.load import load_model, read_config, save_model
from glide.checkpoints.provenance import fingerprint
from glide.diffusion.samplers.base import SeededNoise
from glide.diffusion.samplers.registry import SAMPLERS
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.images import save_png, to_uint8
from guidance import Options
from support.models import CAPTIONS
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]
QUICK: dict[str, Any] = {"num_inference_steps": 3, "seed": 0}


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    pipe = Pipeline(text_model, "tiny", call_size=2)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def drawn(pipe: Pipeline, prompt: Any = RED, **changes: Any) -> Tensor:
    return pipe(prompt, **(QUICK | changes)).tensors


# --- numbers and texts ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_inference_steps": np.int64(3)},
        {"num_inference_steps": 3.0},
        {"num_inference_steps": torch.tensor(3)},
        {"num_inference_steps": "3"},
        {"seed": np.int64(0)},
        {"seed": 0.0},
        {"guidance_scale": np.float32(3)},
        {"guidance_scale": 3},
        {"num_images_per_prompt": np.uint8(1)},
        {"eta": np.float64(0)},
        {"height": 8, "width": 8.0},
    ],
)
def test_numbers_are_numbers(pipe: Pipeline, changes: dict[str, Any]) -> None:
    assert torch.equal(drawn(pipe, **changes), drawn(pipe))
    [recipe] = pipe(RED, **(QUICK | changes)).recipes
    json.dumps(recipe)  # TypeError for numbers of numpy


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prompt": 5}, r"got the prompt 5, expected a text"),
        ({"prompt": [RED, 5]}, r"got the prompt 5 \(int\)"),
        ({"prompt": b"red"}, "expected a text"),
        ({"num_inference_steps": 2.5}, "the number of steps 2.5"),
        ({"num_inference_steps": True}, "the number of steps True"),
        ({"seed": 5.5}, "the seed 5.5"),
        ({"seed": "5"}, "the seed '5'"),
        ({"seed": 2**63}, "the seed 9223372036854775808"),
        ({"guidance_scale": "3"}, "the guidance scale '3'"),
        ({"guidance_scale": float("nan")}, "the guidance scale nan"),
        ({"eta": "0"}, "eta '0'"),
        ({"num_images_per_prompt": 1.5}, "num_images_per_prompt 1.5"),
        ({"strength": 0.5}, "strength 0.5 without a picture"),
        ({"generator": 5, "seed": None}, "int as generator, expected a torch.Generator"),
        ({"options": {"rescale": 0.7}}, "dict as options, expected Options"),
        ({"label": 1.5}, "the class 1.5"),
        ({"height": 11}, "width x height 8x11, expected multiples of 2, .*: write 8x12"),
        ({"height": 0}, "height 0"),
        ({"width": "8"}, "width '8'"),
        ({"output_type": "latent"}, "no latents"),
        ({"output_type": "jpeg"}, "'jpeg', expected pil or np or pt"),
        (
            {"latents": torch.zeros(1, 4, 8, 8)},
            r"latents of \(1, 4, 8, 8\), expected a tensor of \(1, 3, 8, 8\)",
        ),
        ({"latents": [0.0]}, "latents of list"),
        ({"latents": torch.full((1, 3, 8, 8), torch.nan)}, "not finite"),
        ({"latents": torch.zeros(1, 3, 8, 8), "image": Image.new("RGB", (8, 8))}, "latents and a picture"),
        ({"negative_prompt": 5}, "the negative_prompt 5"),
        ({"negative_prompt": ["a", "b"]}, "several negative prompts"),
        ({"negative_prompt": "a", "options": Options(negative="b")}, "another one in options"),
        ({"mask_image": Image.new("L", (8, 8))}, "mask_image without a picture"),
        ({"image": "a.png", "init_image": "b.png"}, "one and the same"),
        ({"callback_on_step_end": 5}, "int as callback_on_step_end"),
        ({"callback_on_step_end": lambda: None}, "does not take four arguments"),
        (
            {"callback_on_step_end_tensor_inputs": ["prompt_embeds"]},
            "'prompt_embeds', expected latents or x0",
        ),
    ],
)
def test_one_sentence(pipe: Pipeline, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        pipe(**({"prompt": RED} | QUICK | changes))
    assert len(str(error.value)) <= 500 and str(error.value).isprintable()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("steps", "did you mean num_inference_steps"),
        ("cfg_scale", "did you mean guidance_scale"),
        ("guidance", "did you mean guidance_scale"),
        ("guidancse", "did you mean guidances"),
        ("negative", "did you mean negative_prompt"),
        ("guidance_rescale", r"Options\(rescale=...\)"),
        ("scheduler", "did you mean sampler"),
        ("callback", "did you mean callback_on_step_end"),
        ("num_images", "did you mean num_images_per_prompt"),
        ("cross_attention_kwargs", "leave it out"),
        ("xyzzy", "choose of callback_on_step_end"),
    ],
)
def test_unknown_words(pipe: Pipeline, word: str, said: str) -> None:
    with pytest.raises(InputError, match=f"got {word}.*{said}"):
        pipe(RED, **{word: 3})


def test_parts_of_other_pipelines(pipe: Pipeline) -> None:
    with pytest.raises(InputError, match=r"sampler='euler'"):
        pipe.scheduler = "euler"
    for name, said in (
        ("scheduler", "sampler='euler'"),
        ("vae", "draw pixels"),
        ("enable_attention_slicing", "not needed"),
        ("half", "pipe.to"),
        ("xyzzy", "'xyzzy', which a Pipeline does not have"),
    ):
        assert not hasattr(pipe, name)
        with pytest.raises(InputError, match=said):
            getattr(pipe, name)


def test_words_of_from_pretrained(text_folder: Path) -> None:
    assert Pipeline.from_pretrained(text_folder, torch_dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(InputError, match=r"torch_dtipe.*did you mean dtype"):
        Pipeline.from_pretrained(text_folder, torch_dtipe=torch.bfloat16)
    with pytest.raises(InputError, match=r"safety_checker.*no picture is filtered"):
        Pipeline.from_pretrained(text_folder, safety_checker=None)


def test_what_is_given_by_habit_or_mistake(pipe: Pipeline) -> None:
    for act, said in (
        (lambda: pipe(RED, 64, 64), "64 without a name"),
        (lambda: pipe(RED, guidances=5), "the guidances 5"),
        (lambda: pipe(RED, guidances=[5]), "the guidance 5"),
        (lambda: pipe(RED, callback_on_step_end_tensor_inputs=5), "callback input 5"),
        (lambda: Pipeline("shapes"), "str as the model"),
        (lambda: Pipeline.from_pretrained(5), "the model 5"),
        (lambda: Pipeline.from_pretrained("shapes", []), r"the device '\[\]'"),
        (lambda: SamplingConfig(guidance=3), "the guidance 3"),
        (lambda: Options(pag_layers=5), "--pag-layers 5"),
        (lambda: Options(rescale="0.7"), "--rescale '0.7'"),
        (lambda: ImageRequest("5", RED), "the seed '5'"),
        (lambda: ImageRequest(2**63, RED), "the seed"),
        (lambda: ImageRequest(0, RED, 1.5), "the class 1.5"),
    ):
        with pytest.raises(InputError, match=said):
            act()


def test_numbers_of_settings_are_those_of_python(pipe: Pipeline) -> None:
    settings = SamplingConfig(
        respacing=np.int64(2), eta=np.float32(0), options=Options(rescale=np.float32(0.5)), guidance=["cfg"]
    )
    picture = ImageRequest(np.int64(3), RED, np.uint8(1))
    assert (settings.respacing, settings.options.rescale, settings.guidance) == ("2", 0.5, ("cfg",))
    json.dumps(pipe.recipe(picture, settings, 0))
    assert len([*pipe.draw([ImageRequest(np.int64(3), RED)], settings)]) == 2


@pytest.mark.slow
def test_a_negative_prompt_is_that_of_the_options(pipe: Pipeline) -> None:
    by_options = drawn(pipe, options=Options(negative=SQUARE))
    assert torch.equal(drawn(pipe, negative_prompt=SQUARE), by_options)
    assert torch.equal(drawn(pipe, negative_prompt=[SQUARE]), by_options)
    assert not torch.equal(by_options, drawn(pipe))
    assert torch.equal(drawn(pipe, negative_prompt=""), drawn(pipe))
    [recipe] = pipe(RED, negative_prompt=SQUARE, **QUICK).recipes
    assert recipe["options"] == {"negative": SQUARE}


def test_one_guidance_needs_no_list(pipe: Pipeline) -> None:
    assert torch.equal(drawn(pipe, guidances="pag:2"), drawn(pipe, guidances=["pag:2"]))


# --- what comes out -------------------------------------------------------------------------------------------------


def test_output_types(pipe: Pipeline) -> None:
    result = pipe([RED, SQUARE], **QUICK)
    array = pipe([RED, SQUARE], output_type="np", **QUICK).images
    tensor = pipe([RED, SQUARE], output_type="pt", **QUICK).images
    assert isinstance(array, np.ndarray) and array.shape == (2, 8, 8, 3) and array.dtype == np.float32
    assert (
        isinstance(tensor, Tensor) and tensor.shape == (2, 3, 8, 8) and 0 <= tensor.min() <= tensor.max() <= 1
    )
    pixels = np.stack([np.asarray(image) for image in result.images])
    assert np.abs((array * 255).round() - pixels).max() <= 1
    assert np.array_equal(array, tensor.permute(0, 2, 3, 1).numpy())
    [images] = pipe([RED, SQUARE], return_dict=False, **QUICK)
    assert [image.tobytes() for image in images] == [image.tobytes() for image in result.images]
    assert result[0] is result.images and result["recipes"] is result.recipes


def test_a_result_shows_itself(pipe: Pipeline) -> None:
    result = pipe(["<b>&", SQUARE], **QUICK)
    assert repr(result) == "Result(2 pictures of 8x8, seeds 0, 1)"
    assert repr(pipe(RED, num_images_per_prompt=6, **QUICK)).endswith("seeds 0, 1, 2, 3, ...)")
    shown = result._repr_html_()
    assert shown.count("<img") == 2 and "&lt;b&gt;&amp; (seed 0)" in shown and "<b>" not in shown
    with Image.open(io.BytesIO(result._repr_png_())) as sheet:
        assert sheet.size == (22, 12)  # two pictures of 8 pixels, and 2 around and between
    assert repr(pipe) == "Pipeline('tiny', 8x8, cpu, float32)"


def test_latents_are_the_noise_of_a_run(pipe: Pipeline) -> None:
    noise = SeededNoise([5, 6]).randn((3, 8, 8), torch.device("cpu"))
    result = pipe([RED, SQUARE], latents=noise, **QUICK)
    assert torch.equal(result.tensors, drawn(pipe, [RED, SQUARE], seed=5))
    assert all("latents" in recipe["made_by"] for recipe in result.recipes)  # which no seed says


# --- pictures to begin with -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    pixels = np.random.default_rng(0).integers(256, size=(8, 8, 3), dtype=np.uint8)
    save_png(path, pixels)
    return path


@pytest.mark.slow
def test_a_picture_in_any_form(pipe: Pipeline, photo: Path) -> None:
    with Image.open(photo) as file:
        picture = file.convert("RGB")
    array = np.asarray(picture)
    tensor = torch.from_numpy(array.copy()).permute(2, 0, 1)  # [3,8,8]
    usual = drawn(pipe, image=picture)
    assert not torch.equal(usual, drawn(pipe))
    for same in (
        photo,
        str(photo),
        [picture],
        array,
        array[None],
        array.astype(np.int64),
        array / 255,
        (array / 255).astype(np.float32),
        tensor,
        tensor[None],
        tensor / 255,
        tensor / 127.5 - 1,
        (tensor / 255).requires_grad_(),
    ):
        assert torch.equal(drawn(pipe, image=same), usual), same
    assert torch.equal(drawn(pipe, init_image=picture), usual)
    assert torch.equal(drawn(pipe, image=picture, strength=np.float64(0.6)), usual)
    grey = Image.fromarray(array[..., 0])
    assert torch.equal(drawn(pipe, image=array[..., 0]), drawn(pipe, image=grey))
    assert torch.equal(drawn(pipe, image=array[..., :1]), drawn(pipe, image=grey))


def test_one_reader_of_pictures(pipe: Pipeline, tmp_path: Path) -> None:
    """16 bits and EXIF from memory as from the file."""
    deep = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    with pytest.warns(UserWarning, match="more than 8 bits"):
        from_file = drawn(pipe, image=tmp_path / "deep.png")
    with pytest.warns(UserWarning, match="more than 8 bits"):
        assert torch.equal(drawn(pipe, image=Image.fromarray(deep)), from_file)
    turned, exif = Image.new("RGB", (16, 16)), Image.Exif()
    turned.paste((255, 255, 255), (0, 0, 16, 8))
    exif[274] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as opened:
        assert torch.equal(drawn(pipe, image=opened), drawn(pipe, image=tmp_path / "turned.png"))
    assert not torch.equal(drawn(pipe, image=turned), drawn(pipe, image=tmp_path / "turned.png"))


def test_a_picture_for_each_prompt(pipe: Pipeline) -> None:
    pictures = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    both = drawn(pipe, [RED, SQUARE], image=pictures, num_images_per_prompt=2)
    assert torch.equal(both[2:], drawn(pipe, SQUARE, image=pictures[1], num_images_per_prompt=2, seed=2))
    with pytest.raises(InputError, match="2 pictures to begin with for 3 to draw"):
        drawn(pipe, [RED, SQUARE, RED], image=pictures)


@pytest.mark.parametrize(
    ("picture", "said"),
    [
        (5, "int as image, expected a path"),
        ({}, "dict as image"),
        (np.zeros((8, 8, 2), np.uint8), "image of shape 8x8x2"),
        (np.zeros(8, np.uint8), "image of shape 8"),
        (np.zeros((0, 8, 3), np.uint8), "image of shape 0x8x3"),
        (np.full((8, 8, 3), 300), "from 300 to 300, expected 0 to 255"),
        (np.full((8, 8, 3), 2.0), "from 2 to 2, expected 0 to 1"),
        (np.full((8, 8, 3), np.nan), "from nan to nan"),
        (np.full((8, 8, 3), "a"), "image of <U1"),
        (np.zeros((8, 8, 3), complex), "image of complex128"),
        ("no such file.png", "no such file.png"),
        (Image.new("F", (8, 8)), "floating-point"),
    ],
)
def test_what_is_no_picture(pipe: Pipeline, picture: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        drawn(pipe, image=picture)


def test_a_recipe_names_the_picture(pipe: Pipeline, photo: Path) -> None:
    [recipe] = pipe(RED, image=photo, **QUICK).recipes
    assert (recipe["init_image"], recipe["strength"]) == (str(photo), 0.6) and len(
        recipe["init_sha256"]
    ) == 64
    with Image.open(photo) as picture:
        [recipe] = pipe(RED, image=picture, **QUICK).recipes
    assert "init_image" not in recipe and len(recipe["init_sha256"]) == 64


# --- painting -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_painting_by_a_mask(pipe: Pipeline, photo: Path, tmp_path: Path) -> None:
    mask = np.zeros((8, 8), bool)
    mask[2:6, 2:5] = True
    with Image.open(photo) as file:
        pixels = np.asarray(file.convert("RGB"))
    result = pipe([RED, SQUARE], image=photo, mask_image=mask, num_inference_steps=6, seed=0)
    painted = np.stack([np.asarray(image) for image in result.images])
    assert painted.shape == (2, 8, 8, 3) and result.tensors.shape == (2, 3, 8, 8)
    assert np.array_equal(painted[:, ~mask], np.stack([pixels, pixels])[:, ~mask])
    assert not np.array_equal(painted[0][mask], painted[1][mask])
    assert np.array_equal(to_uint8(result.tensors).numpy(), painted)
    for same in (mask.astype(np.float32), Image.fromarray(mask), torch.from_numpy(mask)[None]):
        again = pipe([RED, SQUARE], image=photo, mask_image=same, num_inference_steps=6, seed=0)
        assert torch.equal(again.tensors, result.tensors)
    Image.fromarray(mask).save(tmp_path / "mask.png")
    from_files = pipe(RED, image=photo, mask_image=tmp_path / "mask.png", num_inference_steps=6, seed=0)
    assert from_files.recipes[0]["made_by"] == "inpaint.py"  # --like repeats it
    part = pipe(RED, image=photo, mask_image=mask, strength=0.5, num_inference_steps=6, seed=0)
    assert not torch.equal(part.tensors, from_files.tensors) and part.recipes[0]["made_by"] == "Python"
    assert np.array_equal(np.asarray(part.images[0])[~mask], pixels[~mask])
    grey = pipe(RED, image=pixels[..., 0], mask_image=mask, num_inference_steps=6, seed=0)
    assert grey.images[0].mode == "L" and grey.tensors.shape == (1, 1, 8, 8)
    clear = pipe(RED, image=Image.new("LA", (8, 8)), mask_image=mask, num_inference_steps=6, seed=0)
    assert clear.images[0].mode == "RGBA" and np.array_equal(np.asarray(clear.images[0])[..., 3] > 0, mask)
    with pytest.raises(InputError, match="1 pictures and 2 masks"):
        pipe(RED, image=photo, mask_image=[mask, mask])
    with pytest.raises(InputError, match="of 2x4 pixels for a picture of 8x8"):
        pipe(RED, image=photo, mask_image=np.zeros((4, 2), bool))


# --- watching -------------------------------------------------------------------------------------------------------


def test_a_callback_of_four_arguments(pipe: Pipeline) -> None:
    seen: list[tuple[Any, int, int, Tensor, Tensor]] = []

    def callback(owner: Pipeline, step: int, t: int, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((owner, step, t, kwargs["latents"].clone(), kwargs["x0"].clone()))
        return kwargs

    names = ["latents", "x0"]
    result = pipe(RED, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=names, **QUICK)
    assert [step for _, step, *_ in seen] == [0, 1, 2] and all(owner is pipe for owner, *_ in seen)
    timesteps = [t for _, _, t, *_ in seen]
    assert timesteps == sorted(timesteps, reverse=True)
    assert torch.equal(seen[-1][3], result.tensors) and torch.equal(result.tensors, drawn(pipe))
    assert "made_by" not in result.recipes[0]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [*SAMPLERS])
def test_latents_that_a_callback_returns_are_gone_on_with(pipe: Pipeline, sampler: str) -> None:
    other = SeededNoise([9]).randn((3, 8, 8), torch.device("cpu"))

    def callback(owner: Pipeline, step: int, t: int, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"latents": other} if step == 1 else {}

    how = {"num_inference_steps": 4, "seed": 0, "sampler": sampler}
    result = pipe(RED, callback_on_step_end=callback, **how)
    assert not torch.allclose(result.tensors, pipe(RED, **how).tensors, atol=1e-3)
    assert "callback" in result.recipes[0]["made_by"]
    with pytest.raises(InputError, match="latents of"):
        pipe(RED, callback_on_step_end=lambda *_: {"latents": other[:, :, :4]}, **how)


@pytest.mark.parametrize("image", [None, np.zeros((8, 8, 3), np.uint8)])
def test_a_callback_stops_the_run(pipe: Pipeline, image: Any) -> None:
    seen: list[int] = []

    def callback(owner: Pipeline, step: int, t: int, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(step)
        owner._interrupt = step == 1
        assert owner.interrupt == (step == 1)
        return kwargs

    mask = None if image is None else np.eye(8, dtype=bool)
    result = pipe(
        RED, image=image, mask_image=mask, callback_on_step_end=callback, num_inference_steps=5, seed=0
    )
    assert seen == [0, 1] and "stopped after step 2 of" in result.recipes[0]["made_by"]
    assert torch.isfinite(result.tensors).all() and not pipe.interrupt
    seen.clear()
    pipe(RED, callback_on_step_end=lambda owner, step, t, kwargs: seen.append(step), **QUICK)
    assert seen == [0, 1, 2]  # the next run is a new one


@pytest.mark.slow
def test_a_thread_stops_its_own_run_alone(pipe: Pipeline) -> None:
    names = ["cfg:3", "pag:2", "cfg:2", "cads:0.1"]
    alone = [drawn(pipe, guidances=[name], num_inference_steps=5) for name in names]
    found: dict[int, Any] = {}

    def run(i: int) -> None:
        def callback(owner: Pipeline, step: int, t: int, kwargs: dict[str, Tensor]) -> None:
            if i == 4 and step == 1:
                owner._interrupt = True

        guidances = [names[i % 4]]
        found[i] = pipe(
            RED, guidances=guidances, seed=0, num_inference_steps=5, callback_on_step_end=callback
        )

    threads = [Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "stopped after step 2 of 5" in found[4].recipes[0]["made_by"]
    for i in set(range(8)) - {4}:
        assert torch.equal(found[i].tensors, alone[i % 4]) and "made_by" not in found[i].recipes[0]


def test_a_bar_in_python(text_model: Model, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = Pipeline(text_model, call_size=1)
    pipe.set_progress_bar_config(disable=False, desc="here")
    pipe(RED, **QUICK)
    assert "here" in (said := capsys.readouterr().err) and "3/3" in said
    pipe.set_progress_bar_config(disable=True)
    pipe(RED, **QUICK)
    assert capsys.readouterr() == ("", "")


# --- elsewhere ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("again", [copy.deepcopy, lambda pipe: pickle.loads(pickle.dumps(pipe))])
def test_a_copy_draws_the_same(
    text_folder: Path, text_model: Model, again: Callable[[Pipeline], Pipeline]
) -> None:
    for pipe in (
        Pipeline.from_pretrained(text_folder, "cpu", call_size=2),
        Pipeline(text_model, call_size=2),
    ):
        pipe.set_progress_bar_config(disable=True)
        before = drawn(pipe)
        copied = again(pipe)
        assert copied is not pipe and copied.model is not pipe.model
        assert torch.equal(drawn(copied), before) and copied.progress_bar_config["disable"] is True


@pytest.mark.slow
def test_a_stored_pipeline_knows_its_weights(text_model: Model, tmp_path: Path) -> None:
    save_model(tmp_path / "model", text_model)
    stored = pickle.dumps(Pipeline.from_pretrained(tmp_path / "model", "cpu"))
    other = copy.deepcopy(text_model)
    with torch.no_grad():
        next(other.parameters()).add_(1)
    save_model(tmp_path / "model", other)
    with pytest.raises(InputError, match="other weights"):
        pickle.loads(stored)


@pytest.mark.slow
def test_to(text_folder: Path, text_model: Model) -> None:
    for pipe in (
        Pipeline.from_pretrained(text_folder, "cpu", call_size=2),
        Pipeline(text_model, call_size=2),
    ):
        pipe.set_progress_bar_config(disable=True)
        exact = drawn(pipe)
        assert pipe.to("cpu") is pipe and pipe.to(torch.bfloat16) is pipe and pipe.dtype == torch.bfloat16
        rounded = drawn(pipe)
        assert not torch.equal(rounded, exact) and pipe.progress_bar_config["disable"] is True
        assert torch.equal(drawn(pipe.to("cpu", torch.float32)), exact)  # nothing was lost by rounding
        assert torch.equal(drawn(pipe.to(device="cpu", dtype="bfloat16")), rounded)
        assert pipe.to() is pipe
        with pytest.raises(InputError, match="'nowhere'"):
            pipe.to("nowhere")
        with pytest.raises(InputError, match="int8"):
            pipe.to(torch.int8)
        with pytest.raises(InputError, match="memory_format"):
            pipe.to(memory_format=torch.channels_last)
        assert torch.equal(drawn(pipe), rounded)  # as it was


@pytest.mark.slow
def test_save_pretrained(text_folder: Path, text_model: Model, tmp_path: Path) -> None:
    for name, pipe in (
        ("a", Pipeline.from_pretrained(text_folder, "cpu", torch.bfloat16)),
        ("b", Pipeline(text_model, dtype=torch.bfloat16)),
    ):
        pipe.save_pretrained(tmp_path / name)
        assert fingerprint(load_model(tmp_path / name)) == fingerprint(text_model) == pipe.fingerprint
        assert read_config(tmp_path / name)["training"] == read_config(text_folder)["training"]
        with pytest.raises(InputError, match="already holds a model"):
            pipe.save_pretrained(tmp_path / name)
        pipe.save_pretrained(tmp_path / name, overwrite=True)
    with pytest.raises(InputError, match="owns its model"):
        Pipeline(copy.deepcopy(text_model), owned=True).save_pretrained(tmp_path / "c")


def test_push_to_hub(text_folder: Path, text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    asked: list[Any] = []

    class Api:
        def __init__(self, token: str | None) -> None:
            asked.append(token)

        def create_repo(self, repo_id: str, private: bool | None, exist_ok: bool) -> Any:
            if repo_id == "taken":
                raise ConnectionError("no rights here.\nand much more")
            return type("Url", (), {"repo_id": f"me/{repo_id}"})

        def list_repo_files(self, repo_id: str) -> list[str]:
            return [".gitattributes"]

        def upload_folder(self, repo_id: str, folder_path: Path, commit_message: str, create_pr: bool) -> str:
            asked.append(
                (repo_id, fingerprint(load_model(folder_path)), sorted(p.name for p in folder_path.iterdir()))
            )
            return f"at/{repo_id}"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    pipe = Pipeline.from_pretrained(text_folder, "cpu")
    assert pipe.push_to_hub("mine", token="t") == "at/me/mine"
    files = ["README.md", "config.json", "model.safetensors", "tokenizer.json"]
    assert asked == ["t", ("me/mine", pipe.fingerprint, files)]
    with pytest.raises(InputError, match=r"did not take taken \(no rights here\)"):
        pipe.push_to_hub("taken")
