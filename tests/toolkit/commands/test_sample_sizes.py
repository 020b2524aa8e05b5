"""Pictures of other sizes than the model's own, by sample.py --size, interpolate.py --size and the Pipeline."""

import math
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from glide.checkpoints.load import load_model, save_model
from glide.diffusion.denoiser import split_variance, to_x0
from glide.diffusion.samplers.base import SeededNoise
from glide.networks.model import Model
from glide.utils.errors import InputError
from glide.utils.images import load_image, read_recipe
from support import interpolate_script
from support.latent import latent_model
from support.models import CAPTIONS, randomised
from support.sample_script import Capture, call, pngs, refused
from toolkit.pipelines.pipeline import Pipeline

RED = CAPTIONS[0]

pytestmark = [
    pytest.mark.filterwarnings("default:.*far from the sizes"),
    pytest.mark.filterwarnings("default:.*its middle part"),
]


def run_of(folder: Path, *flags: object) -> list[object]:
    return ["--model", folder, "--steps", 2, "--prompt", RED, *flags]


def test_one_step_is_the_networks_prediction_of_that_size(text_model: Model) -> None:
    pipe = Pipeline(text_model, dtype="float32")
    found = pipe(RED, width=12, height=6, num_inference_steps="1", guidance_scale=1.0, seed=3).tensors
    x = SeededNoise([3]).randn((3, 6, 12), torch.device("cpu"))
    t = torch.tensor([len(text_model.process) - 1])
    with torch.no_grad():
        output, _ = split_variance(text_model(x, t, text_model.caption_batch([RED])), 3)
    alpha_bar = float(text_model.process.alpha_bar[-1])
    x0 = to_x0("eps", output, x, *(torch.tensor(math.sqrt(a)) for a in (alpha_bar, 1 - alpha_bar)))
    assert found.shape == (1, 3, 6, 12)
    torch.testing.assert_close(found, x0.clamp(-1, 1), atol=1e-4, rtol=1e-4)


def test_a_picture_and_its_recipe(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    flags = run_of(text_folder, "--size", "12x8", "--num-samples", 3, "--seed", 5)
    assert call(*flags, "--grid", "--gif", "--out", tmp_path) == 0
    out, err = capsys.readouterr()
    assert "3 pictures" in out and "12x8 is far from the sizes that the model was trained on (8x8)" in err
    assert load_image(tmp_path / "00000.png").shape == (8, 12, 3)  # the first number is the width
    assert read_recipe(tmp_path / "00001.png")["size"] == "12x8"
    # whatever the batch size
    assert call(*flags, "--batch-size", 1, "--call-size", 3, "--out", tmp_path / "one") == 0
    for name in ("00000.png", "00002.png"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    # and again
    assert call("--trust-recipe", "--like", tmp_path / "00001.png", "--out", tmp_path / "again") == 0
    assert (tmp_path / "again/00000.png").read_bytes() == (tmp_path / "00001.png").read_bytes()


def test_the_models_own_size_changes_no_recipe(text_folder: Path, tmp_path: Path) -> None:
    assert call(*run_of(text_folder, "--size", "8x8"), "--out", tmp_path) == 0
    assert call(*run_of(text_folder), "--out", tmp_path) == 0
    assert (tmp_path / "00000.png").read_bytes() == (tmp_path / "00001.png").read_bytes()
    assert "size" not in read_recipe(tmp_path / "00000.png")


def test_the_pipeline_draws_what_the_command_draws(
    text_model: Model, text_folder: Path, tmp_path: Path
) -> None:
    assert call(*run_of(text_folder, "--size", "12x8", "--dtype", "float32"), "--out", tmp_path) == 0
    result = Pipeline(text_model, dtype="float32")(RED, width=12, num_inference_steps=2, seed=0)
    assert result.images[0].size == (12, 8) and result.recipes[0]["size"] == "12x8"
    assert np.array_equal(np.asarray(result.images[0]), load_image(tmp_path / "00000.png").numpy())


def test_a_cascade_of_other_shapes(text_folder: Path, upsampler_folder: Path, tmp_path: Path) -> None:
    flags = run_of(text_folder, "--size", "48x32", "--upsampler", upsampler_folder, "--upsample-steps", 2)
    assert call(*flags, "--out", tmp_path) == 0
    assert pngs(tmp_path) == ["00000-12x8.png", "00000.png"]
    assert load_image(tmp_path / "00000.png").shape == (32, 48, 3)
    recipe = read_recipe(tmp_path / "00000.png")
    assert recipe["size"] == "48x32" and "upsampler" in recipe
    assert call("--trust-recipe", "--like", tmp_path / "00000.png", "--out", tmp_path / "again") == 0
    for name in pngs(tmp_path / "again"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / name).read_bytes()
    assert call(*run_of(text_folder, "--size", "12x8"), "--out", tmp_path / "small") == 0
    small = load_image(tmp_path / "small/00000.png")
    assert torch.equal(small, load_image(tmp_path / "00000-12x8.png"))


def test_the_size_of_a_training_is_the_default(text_model: Model, tmp_path: Path) -> None:
    wide = Model(replace(text_model.config, sizes=("12x8", "8x12")), text_model.tokenizer)
    wide.load_state_dict(text_model.state_dict())
    save_model(tmp_path / "wide", wide)
    assert load_model(tmp_path / "wide").config.sizes == ("12x8", "8x12")
    pipe = Pipeline.from_pretrained(tmp_path / "wide", dtype="float32")
    assert "12x8" in repr(pipe)
    with warnings.catch_warnings():  # both are sizes of the training: nothing is said
        warnings.simplefilter("error")
        assert pipe(RED, num_inference_steps=2, seed=0).images[0].size == (12, 8)
        assert pipe(RED, width=8, height=12, num_inference_steps=2, seed=0).images[0].size == (8, 12)
    plain = Pipeline(text_model, dtype="float32")
    same = plain(RED, width=12, num_inference_steps=2, seed=0).tensors
    assert torch.equal(pipe(RED, num_inference_steps=2, seed=0).tensors, same)
    assert call(*run_of(tmp_path / "wide", "--size", "8x12"), "--out", tmp_path / "o") == 0
    assert load_image(tmp_path / "o/00000.png").shape == (12, 8, 3)


def test_latents_of_other_shapes() -> None:
    pipe = Pipeline(latent_model(), dtype="float32")
    result = pipe(RED, width=48, height=16, num_inference_steps=2, seed=0, output_type="latent")
    assert result.images.shape == (1, 5, 4, 12) and result.tensors.shape == (1, 3, 16, 48)
    with pytest.raises(InputError, match=r"width x height 50x32, expected multiples of 8.*write 48x32"):
        pipe(RED, width=50, num_inference_steps=2)


def test_image_to_image_of_other_shapes(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 8:23] = 255  # the middle of 3:2 is white
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    start = ("--init-image", tmp_path / "photo.png", "--strength", 0.01)
    assert call(*run_of(text_folder, "--size", "12x8", *start), "--out", tmp_path / "o") == 0
    assert "its middle part of 15x10 is the start" in capsys.readouterr().err
    assert load_image(tmp_path / "o/00000.png").shape == (8, 12, 3)


def test_what_takes_no_other_size(class_model: Model, text_model: Model, filler: Model) -> None:
    pipe, photo, mask = Pipeline(filler, dtype="float32"), Image.new("RGB", (12, 8)), Image.new("L", (12, 8))
    mask.paste(255, (2, 2, 6, 6))
    with pytest.raises(InputError, match="got width and mask_image, expected one of them"):
        pipe(RED, image=photo, mask_image=mask, width=12, num_inference_steps=2)
    assert pipe(RED, width=12, num_inference_steps=2, seed=0).images[0].size == (
        12,
        8,
    )  # without a mask it draws
    with pytest.raises(InputError, match=r"latents of .*, expected a tensor of \(1, 3, 8, 12\)"):
        Pipeline(text_model)(RED, width=12, latents=torch.zeros(1, 3, 8, 8), num_inference_steps=2)


def test_inpainting_is_square_whatever_the_model_draws(filler: Model) -> None:
    wide = Model(replace(filler.config, sizes=("12x8",)), filler.tokenizer)
    wide.load_state_dict(filler.state_dict())
    photo, mask = Image.new("RGB", (20, 16), (200, 10, 10)), Image.new("L", (20, 16))
    mask.paste(255, (2, 2, 6, 6))
    both = [
        Pipeline(model, dtype="float32")(RED, image=photo, mask_image=mask, num_inference_steps=2, seed=0)
        for model in (wide, filler)
    ]
    assert torch.equal(both[0].tensors, both[1].tensors)


def test_walks_of_other_shapes(text_folder: Path, tmp_path: Path) -> None:
    prompts = [flag for caption in CAPTIONS[:2] for flag in ("--prompt", caption)]
    flags = ["--model", text_folder, "--size", "12x8", "--frames", 3, "--steps", 2, *prompts]
    assert interpolate_script.call(*flags, "--out", tmp_path / "walk.png") == 0
    assert load_image(tmp_path / "walk.png").shape == (8 + 4, 3 * 14 + 2, 3)
    assert read_recipe(tmp_path / "walk.png")["size"] == "12x8"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--size 11x8",
            "got --size 11x8, expected multiples of 2, by which the network scales its pictures down: ",
        ),
        ("--size 12", "a model of 8 pixels without an embedded upsampler, expected 8, or the name of one"),
        ("--size 0x8", "got --size 0, expected a whole number from 1 to 16384"),
        ("--size wide", "got --size 'wide', expected WIDTHxHEIGHT in pixels"),
        (
            "--size 12x8 --guidance classifier:2 --classifier {classifier}",
            "as a classifier takes one size alone",
        ),
    ],
)
def test_bad_sizes(
    text_folder: Path, tmp_path: Path, capsys: Capture, flags: str, said: str, text_model: Model
) -> None:
    if "{classifier}" in flags:
        from guidance.classifier.config import ClassifierConfig
        from guidance.classifier.load import save_classifier
        from guidance.classifier.network import NoisyClassifier

        unet, process = text_model.config.unet, text_model.config.process
        names = ("circle", "square")
        torch.manual_seed(0)
        save_classifier(tmp_path / "c", NoisyClassifier(ClassifierConfig(unet, 2, names, process=process)))
        flags = flags.format(classifier=tmp_path / "c") + " --label circle"
    code = call(
        "--model", text_folder, "--steps", 2, "--prompt", RED, "--out", tmp_path / "o", *flags.split()
    )
    _, err = capsys.readouterr()
    assert code == 2 and said in err.splitlines()[-1] and err.splitlines()[-1].startswith("error: ")
    assert not (tmp_path / "o").exists()


def test_a_recipe_with_another_size_is_refused(text_folder: Path, tmp_path: Path, capsys: Capture) -> None:
    from glide.utils.images import save_png

    assert call(*run_of(text_folder), "--out", tmp_path) == 0
    for size in ("12by8", [12, 8]):
        recipe = read_recipe(tmp_path / "00000.png") | {"size": size}
        save_png(tmp_path / "bad.png", torch.zeros(8, 8, 3, dtype=torch.uint8), recipe, replace=True)
        capsys.readouterr()
        refused(call("--trust-recipe", "--like", tmp_path / "bad.png"), capsys, "the recipe")


def test_a_random_network_sees_its_coordinates_at_any_shape() -> None:
    """A transposed picture of a network of coordinates is not the picture: it distinguishes rows from columns."""
    from glide.networks.config import ModelConfig
    from support.models import tiny_unet

    config = ModelConfig(replace(tiny_unet(6), coordinates=2))
    model = randomised(Model(config), 4).eval()
    x, t = torch.randn(1, 3, 6, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([5])
    with torch.no_grad():
        wide, high = model(x, t, {}), model(x.mT.contiguous(), t, {})
    assert wide.shape == (1, 6, 6, 12) and high.shape == (1, 6, 12, 6)
    assert (wide - high.mT).abs().max() > 1e-3
