"""Drawing by image embeddings: variations, priors, strengths of picture and words, and what does not fit."""

import dataclasses
import hashlib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sample as sample_script
import torch
import train_base as train_script
from PIL import Image

from glide.checkpoints.image_encoders import find_image_encoder, image_encoder_named
from glide.checkpoints.init_from import init_from
from glide.checkpoints.load import load_model, save_model
from glide.checkpoints.priors import save_prior
from glide.networks.conditioner import Conditioner
from glide.networks.image_encoder_config import ImageEncoderConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.networks.prior import Prior
from glide.training.objectives import DiffusionObjective
from glide.training.row_rng import RowRng
from glide.utils.errors import InputError
from glide.utils.images import read_recipe
from support import scripts
from support.image_encoders import write_image_encoder
from support.models import CAPTIONS, randomised
from support.priors import tiny_prior
from support.sample_script import Capture, refused
from toolkit.pipelines.image_embeddings import embeddings_of_pictures
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.prior import sample_embeddings
from toolkit.pipelines.settings import SamplingConfig

RED = CAPTIONS[0]
WIDTH, SIZE = 12, 8


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> ImageEncoderConfig:
    folder = write_image_encoder(tmp_path_factory.mktemp("encoder") / "dino", "dinov2", width=WIDTH)
    return image_encoder_named(f"dinov2:{folder}")[0]


@pytest.fixture(scope="module")
def model(text_model: Model, encoder: ImageEncoderConfig) -> Model:
    config = replace(text_model.config, image_encoder=encoder, null_condition=True)
    return randomised(Model(config, text_model.tokenizer), seed=4)


@pytest.fixture(scope="module")
def pipe(model: Model) -> Pipeline:
    return Pipeline(model, dtype="float32")


@pytest.fixture(scope="module")
def prior(encoder: ImageEncoderConfig) -> Prior:
    return tiny_prior(encoder=encoder)


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "picture.png"
    pixels = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def embedding(seed: int = 0) -> torch.Tensor:
    return torch.randn(WIDTH, generator=torch.Generator().manual_seed(seed))


def request(caption: str = RED, shown: bool = True, seed: int = 0) -> ImageRequest:
    return ImageRequest(seed, caption, None, KnownPixels(embedding=embedding() if shown else None))


def one_step(pipe: Pipeline, one: ImageRequest, *guidance: str) -> torch.Tensor:
    """x0 of one guided step, without the bound of pixels."""
    loop = pipe.loop([one], SamplingConfig(guidance=guidance or "none"))
    loop.denoise.x0_maps = []
    x = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    return loop.denoise(x.expand(len(loop.rows), -1, -1, -1).contiguous(), 60).x0[loop.padding.real]


def test_picture_and_words_have_strengths_of_their_own(pipe: Pipeline) -> None:
    """Eq. 3 of 2211.09800, from three predictions of the network alone."""
    both, alone = one_step(pipe, request()), one_step(pipe, request(""))
    neither = one_step(pipe, request("", shown=False))
    assert len({float(x.sum()) for x in (both, alone, neither)}) == 3
    for words, strength in ((3.0, 1.5), (0.0, 1.0), (0.5, 0.25)):
        expected = neither + strength * (alone - neither) + words * (both - alone)
        found = one_step(pipe, request(), f"cfg:{words}", f"picture:{strength}")
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_strength_1_is_the_conditional_model_and_0_the_model_without_the_picture(pipe: Pipeline) -> None:
    assert torch.equal(one_step(pipe, request(), "cfg:1", "picture:1"), one_step(pipe, request()))
    assert torch.equal(one_step(pipe, request(), "picture:0"), one_step(pipe, request(shown=False)))


def test_the_direction_of_an_embedding_counts(pipe: Pipeline) -> None:
    longer = replace(request(), given=KnownPixels(embedding=7 * embedding()))
    torch.testing.assert_close(one_step(pipe, longer), one_step(pipe, request()), rtol=1e-4, atol=1e-4)


def test_a_model_begins_as_the_one_without_embeddings(text_model: Model, model: Model) -> None:
    new = Model(model.config, text_model.tokenizer)
    fresh = init_from(new, text_model)
    assert {name.partition(".")[0] for name in fresh} == {"embedding_in", "embedding_out"}
    x, t = torch.randn(1, 3, SIZE, SIZE), torch.tensor([50])
    expected = text_model.unet(x, t, Conditioner(text_model).of([ImageRequest(0, RED)]))
    for shown in (True, False):
        assert torch.equal(new.unet(x, t, Conditioner(new).of([request(shown=shown)])), expected)


def test_training_shows_the_embedding_of_the_learned_picture(
    model: Model, encoder: ImageEncoderConfig
) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    found = find_image_encoder(encoder)
    image = torch.rand(300, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    batch = {"image": image, "caption": [RED] * 300}
    task = DiffusionObjective(null_captions=0.5, null_conditions=0.3, image_encoder=found)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            model, "forward", lambda x, t, inputs: seen.append(inputs) or torch.zeros(len(x), 6, SIZE, SIZE)
        )
        task(model, batch, torch.zeros(300, dtype=torch.int64), RowRng(0, range(300)))
    (inputs,) = seen
    shown = inputs["image_embedding"]
    left_out = ~shown.any(dim=1)
    assert 0.2 < left_out.float().mean() < 0.4
    torch.testing.assert_close(shown[~left_out], found.encode(image)[~left_out])
    null = (inputs["tokens"] == model.caption_batch([""])["tokens"]).all(dim=1)
    assert abs(float((null & left_out).float().mean()) - 0.15) < 0.06  # captions are left out apart from it


def test_pictures_files_and_numbers_are_one(
    pipe: Pipeline, picture: Path, encoder: ImageEncoderConfig
) -> None:
    pixels = torch.from_numpy(np.array(Image.open(picture))).permute(2, 0, 1)
    (given,) = embeddings_of_pictures(str(picture), pipe.model, "like_image")
    assert torch.equal(given.embedding, find_image_encoder(encoder).encode(pixels[None] / 127.5 - 1)[0])
    ways = ({"like_image": str(picture)}, {"like_image": pixels}, {"image_embedding": given.embedding})
    drawn = [pipe(**way, seed=1, num_inference_steps=3, output_type="pt").images for way in ways]
    assert all(torch.equal(drawn[0], one) for one in drawn)
    other = pipe(image_embedding=embedding(), seed=1, num_inference_steps=3, output_type="pt").images
    assert not torch.equal(other, drawn[0])
    several = pipe(
        image_embedding=torch.stack([embedding(), given.embedding]),
        prompt=["", ""],
        guidance_scale=1.0,
        seed=0,
        num_inference_steps=3,
        output_type="pt",
    ).images
    torch.testing.assert_close(several[1], drawn[0][0], rtol=0, atol=1e-3)


def test_a_prior_draws_the_embedding_of_each_caption(pipe: Pipeline, prior: Prior) -> None:
    options = {"seed": 3, "num_inference_steps": 3, "output_type": "pt"}
    found = pipe(CAPTIONS[:2], prior=prior, **options)
    z = sample_embeddings(prior, CAPTIONS[:2], [3, 4])
    assert torch.equal(found.images, pipe(CAPTIONS[:2], image_embedding=z, **options).images)
    assert found.recipes[0]["prompt"] == CAPTIONS[0] and len(found.recipes[0]["prior_weights"]) == 16


def test_a_variation_is_drawn_again_from_its_recipe(
    model: Model, prior: Prior, picture: Path, tmp_path: Path, capsys: Capture
) -> None:
    save_model(tmp_path / "model", model)
    save_prior(tmp_path / "prior", prior)
    copy = tmp_path / "copy.png"
    copy.write_bytes(picture.read_bytes())
    flags = ("--model", tmp_path / "model", "--steps", "2", "--dtype", "float32", "--out", tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scripts.call(sample_script, "--like-image", copy, *flags) == 0
        assert scripts.call(sample_script, "--prior", tmp_path / "prior", "--prompt", RED, *flags) == 0
    recipe, by_prior = (read_recipe(tmp_path / "out" / name) for name in ("00000.png", "00001.png"))
    assert recipe["like_image"] == str(copy) and recipe["guidance"] == "none" and recipe["prompt"] == ""
    assert recipe["like_image_sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
    assert by_prior["prior"] == str(tmp_path / "prior") and by_prior["guidance"] == "cfg"
    for name, again in (("00000.png", "00002.png"), ("00001.png", "00003.png")):
        like = ("--like", tmp_path / "out" / name, "--trust-recipe", "--out", tmp_path / "out")
        assert scripts.call(sample_script, *like) == 0
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "out" / again).read_bytes()
    capsys.readouterr()
    like = ("--like", tmp_path / "out" / "00000.png", "--out", tmp_path / "out")
    refused(scripts.call(sample_script, *like), capsys, "--like-image")  # a stranger's file
    Image.new("RGB", (SIZE, SIZE)).save(copy)
    refused(
        scripts.call(sample_script, *like, "--trust-recipe"), capsys, "which is not the one any more that"
    )
    with torch.no_grad():
        prior.head.bias.add_(1.0)
    save_prior(tmp_path / "prior", prior, overwrite=True)
    like = ("--like", tmp_path / "out" / "00001.png", "--out", tmp_path / "out", "--trust-recipe")
    refused(scripts.call(sample_script, *like), capsys, "which is not the one any more that")


def test_a_model_that_always_had_its_pictures_needs_them(model: Model) -> None:
    always = Model(replace(model.config, null_condition=False), model.tokenizer)
    strict = Pipeline(randomised(always, seed=4), dtype="float32")
    with pytest.raises(
        InputError, match="got no picture for a model that is conditioned on the embedding of"
    ):
        strict(RED, num_inference_steps=2)
    strict(RED, image_embedding=embedding(), num_inference_steps=2)
    with pytest.raises(InputError, match="got the guidance picture for a model that was always given its"):
        strict(RED, image_embedding=embedding(), guidances="picture:2")


def test_bad_input(pipe: Pipeline, text_model: Model, prior: Prior, picture: Path, tmp_path: Path) -> None:
    plain = Pipeline(text_model, dtype="float32")
    for arguments in ({"like_image": str(picture)}, {"image_embedding": embedding()}, {"prior": prior}):
        with pytest.raises(
            InputError, match="for a model that is conditioned on no image embedding, expected"
        ):
            plain(RED, **arguments)
    with pytest.raises(
        InputError, match="got more than one of like_image, image_embedding and prior, expect"
    ):
        pipe(RED, like_image=str(picture), prior=prior)
    with pytest.raises(InputError, match=r"got image_embedding \[3\], expected a tensor \[12\] or \[N,12\]"):
        pipe(RED, image_embedding=torch.zeros(3))
    with pytest.raises(InputError, match="got an image_embedding that is not finite"):
        pipe(RED, image_embedding=torch.full((WIDTH,), torch.nan))
    with pytest.raises(InputError, match="got the guidance picture without a condition, expected one"):
        pipe(RED, guidances="picture:2")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png"):
        pipe(like_image=str(tmp_path / "text.png"))
    other = dataclasses.replace(prior.config.image_encoder, fingerprint="0" * 16)
    with pytest.raises(
        InputError, match=r"got the prior the prior of the embeddings|expected those of dinov2"
    ):
        pipe(RED, prior=tiny_prior(encoder=other))
    with pytest.raises(InputError, match="got an empty caption for the prior"):
        pipe("", prior=prior, guidance_scale=1.0)
    moved = Model(replace(pipe.model.config, image_encoder=replace(other, path=str(tmp_path))), None)
    with pytest.raises(InputError, match="image encoder"):
        embeddings_of_pictures(str(picture), moved, "like_image")


@pytest.mark.slow
def test_a_model_is_trained_by_the_command(
    encoder: ImageEncoderConfig, text_folder: Path, picture: Path, tmp_path: Path, capsys: Capture
) -> None:
    small = ("--steps", "1", "--batch-size", "2", "--dtype", "float32", "--device", "cpu", "--ema", "0.5")
    small += ("--sample-every", "1", "--validation-batches", "1", "--warmup", "1", "--data", "shapes:one")
    name = f"dinov2:{encoder.path}"
    words = ("--preset", "tiny", "--image-encoder", name, "--unconditional", "--out", tmp_path / "alone")
    assert scripts.call(train_script, *small, *words) == 0
    alone = load_model(tmp_path / "alone").config
    assert alone.image_encoder == encoder and alone.null_condition and not alone.reads_captions
    # it goes on, and begins others
    assert (
        scripts.call(train_script, *small[2:], "--steps", "2", "--resume", "--out", tmp_path / "alone") == 0
    )
    more = ("--init", tmp_path / "alone", "--unconditional", "--out", tmp_path / "more")
    assert scripts.call(train_script, *small, *more) == 0
    assert load_model(tmp_path / "more").config.image_encoder == encoder
    drawn = (
        "--model",
        tmp_path / "alone",
        "--like-image",
        picture,
        "--steps",
        "2",
        "--guidance",
        "picture:2",
    )
    assert scripts.call(sample_script, *drawn, "--out", tmp_path / "drawn") == 0
    other = write_image_encoder(tmp_path / "other", "dinov2", seed=5, width=WIDTH)
    capsys.readouterr()
    wrong = (
        "--init",
        tmp_path / "alone",
        "--image-encoder",
        other,
        "--unconditional",
        "--out",
        tmp_path / "x",
    )
    refused(
        scripts.call(train_script, *small, *wrong), capsys, "whose embeddings its weights read: leave --image"
    )
    drawn = ("--model", text_folder, "--like-image", picture, "--out", tmp_path / "x")
    refused(
        scripts.call(sample_script, *drawn), capsys, "got --like-image for a model that is conditioned on no"
    )
    drawn = ("--like-image", picture, "--prior", "shapes-prior", "--out", tmp_path / "x")
    refused(scripts.call(sample_script, *drawn), capsys, "got --like-image and --prior, expected one of them")
