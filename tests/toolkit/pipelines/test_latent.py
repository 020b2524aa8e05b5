"""Models that draw latents: everything that works on pixels works on them too."""

import dataclasses

import numpy as np
import pytest
import torch

from glide.checkpoints.load import load_model, save_model
from glide.diffusion.samplers.registry import all_samplers
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance.options import Options
from support.latent import FACTOR, SIZE, latent_model, small_autoencoder
from support.models import CAPTIONS, close
from toolkit.pipelines.inpaint import inpaint, plan
from toolkit.pipelines.invert import decode, encode
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

ROWS = [ImageRequest(i, caption) for i, caption in enumerate(CAPTIONS)]


@pytest.fixture(scope="module")
def pipe() -> Pipeline:
    return Pipeline(latent_model(), dtype="float32")


def last(pipe, rows, settings):
    *_, step = pipe.draw(rows, settings)
    return step


def test_pictures_are_decoded_latents(pipe):
    step = last(pipe, ROWS, SamplingConfig("ddim", "4"))
    assert step.latents.shape == (3, 5, SIZE // FACTOR, SIZE // FACTOR)
    assert step.x.shape == step.x0.shape == (3, 3, SIZE, SIZE)
    assert torch.equal(step.x, pipe.model.first_stage.decode(step.latents))
    assert step.latents.abs().max() > 1.0  # nothing is clamped to the range of pixels


def test_a_picture_does_not_depend_on_those_beside_it():
    pipe = Pipeline(latent_model(), dtype="float32", call_size=2)
    settings = SamplingConfig("ddim", "3", guidance="cfg:3")
    together = last(pipe, ROWS, settings).x
    *_, alone = pipe.draw(ROWS[1:2], settings, place=1)
    assert torch.equal(together[1], alone.x[0])


@pytest.mark.parametrize("sampler", all_samplers())
def test_every_sampler(pipe, sampler):
    assert torch.isfinite(last(pipe, ROWS[:1], SamplingConfig(sampler, "4")).x).all()


@pytest.mark.parametrize("guidance", ["cfg:3", "apg:5", "pag:2", "cads:3", ("cfg:3", "pag:1")])
def test_guidances_of_the_model_itself(pipe, guidance):
    settings = SamplingConfig("ddim", "3", guidance=guidance)
    plain = last(pipe, ROWS[:1], SamplingConfig("ddim", "3", guidance="none")).x
    guided = last(pipe, ROWS[:1], settings).x
    assert torch.isfinite(guided).all() and not torch.equal(guided, plain)


def test_a_threshold_has_no_meaning(pipe):
    with pytest.raises(InputError, match="got a dynamic threshold for a model that draws latents"):
        list(pipe.draw(ROWS, SamplingConfig("ddim", "2", options=Options(threshold=0.99))))


def test_another_size_is_one_of_whole_latents(pipe):
    settings = SamplingConfig("ddim", "2", guidance="none")
    *_, step = pipe.draw(ROWS[:1], settings, size=(40, 24))
    assert step.latents.shape[-2:] == (10, 6) and step.x.shape == (1, 3, 40, 24)
    with pytest.raises(InputError, match=r"got the size 26x40, expected multiples of 8, .*: write 24x40"):
        list(pipe.draw(ROWS[:1], settings, size=(40, 26)))


def test_a_start_picture_is_encoded(pipe):
    start = torch.rand(3, SIZE, SIZE) * 2 - 1
    rows = [ImageRequest(0, CAPTIONS[0], given=KnownPixels(start=start))]
    near = last(pipe, rows, SamplingConfig("ddim", "100", guidance="none", strength=0.02)).latents
    expected = pipe.model.first_stage.encode(start[None])
    far = last(pipe, rows, SamplingConfig("ddim", "100", guidance="none", strength=0.9)).latents
    assert (near - expected).abs().mean() < 0.1 * (far - expected).abs().mean()


def test_inversion_goes_there_and_back():
    model = latent_model()
    model.unet.head.weight.data.mul_(0.1)  # random weights are rougher than learned ones
    pipe = Pipeline(model, dtype="float32")
    start = torch.rand(3, SIZE, SIZE) * 2 - 1
    settings = SamplingConfig("ddim", "20", guidance="none", strength=0.5)
    rows = [ImageRequest(0, CAPTIONS[0], given=KnownPixels(start=start))]
    latent = encode(pipe, rows, settings)
    assert latent.shape == (1, 5, SIZE // FACTOR, SIZE // FACTOR)
    back = decode(pipe, [ImageRequest(0, CAPTIONS[0], given=KnownPixels(latent=latent[0]))], settings)
    expected = pipe.model.first_stage.decode(pipe.model.first_stage.encode(start[None]))
    torch.testing.assert_close(back, expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("method", "size"), [("model", (45, 61)), ("repaint", (32, 32)), ("replace", (50, 33))]
)
def test_pixels_outside_the_mask_stay_bit_for_bit(method, size):
    pipe = Pipeline(latent_model(inpaint=method == "model"), dtype="float32")
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    unknown = np.zeros(size, bool)
    unknown[10:22, 7:20] = True
    settings = SamplingConfig("ddim", "3", guidance="none")
    how = plan(pipe, unknown, settings, method)
    painted = inpaint(pipe, rgb, unknown, ROWS[:2], how)
    for result in painted:
        assert np.array_equal(result[~unknown], rgb[~unknown])
        assert not np.array_equal(result[unknown], rgb[unknown])
    # what is painted over reaches nothing
    hidden = rgb.copy()
    hidden[unknown] = 255 - hidden[unknown]
    for result, other in zip(painted, inpaint(pipe, hidden, unknown, ROWS[:2], how), strict=True):
        assert np.array_equal(result, other)


def test_known_latents_are_those_of_wholly_known_cells():
    stage = latent_model().first_stage
    mask = torch.ones(1, 1, 16, 16)
    mask[..., 5, 9] = 0
    image, known = stage.encode_known(torch.rand(1, 3, 16, 16), mask)
    assert image.shape == (1, 5, 4, 4) and known.sum() == 15 and known[0, 0, 1, 2] == 0


def test_call_gives_pictures_and_latents(pipe):
    result = pipe(CAPTIONS[0], num_inference_steps=2, seed=0)
    assert result.tensors.shape == (1, 3, SIZE, SIZE) and result.images[0].size == (SIZE, SIZE)
    seen = []

    def look(pipe, step, t, kwargs):
        seen.append(kwargs["latents"].shape)
        return kwargs

    raw = pipe(CAPTIONS[0], num_inference_steps=2, seed=0, callback_on_step_end=look, output_type="latent")
    assert seen == [(1, 5, 8, 8)] * 2
    assert torch.equal(pipe.model.first_stage.decode(raw.images), result.tensors)
    begun = pipe(CAPTIONS[0], num_inference_steps=2, latents=torch.randn(1, 5, 8, 8))
    assert begun.images[0].size == (SIZE, SIZE)


def test_a_folder_holds_its_autoencoder(tmp_path):
    model = latent_model()
    save_model(tmp_path / "one", model)
    again = load_model(tmp_path / "one")
    x = torch.rand(1, 3, SIZE, SIZE)
    assert torch.equal(again.first_stage.encode(x), model.first_stage.encode(x))
    assert again.config == model.config and "first_stage" not in dict(again.named_parameters())
    close(
        last(Pipeline(again, dtype="float32"), ROWS, SamplingConfig("ddim", "2")).x,
        last(Pipeline(model, dtype="float32"), ROWS, SamplingConfig("ddim", "2")).x,
    )


def test_another_autoencoder_is_refused(tmp_path):
    from glide.checkpoints.autoencoders import save_autoencoder

    save_model(tmp_path / "one", latent_model())
    other = small_autoencoder()
    other.stem.weight.data.mul_(2)
    save_autoencoder(tmp_path / "one" / "first_stage", other)
    with pytest.raises(InputError, match="with other weights"):
        load_model(tmp_path / "one")
    save_autoencoder(tmp_path / "one" / "first_stage", small_autoencoder(channel_mult=(1, 1)))
    with pytest.raises(InputError, match="of factor 8 for 3 channels, expected factor 4"):
        load_model(tmp_path / "one")
    (tmp_path / "one" / "first_stage" / "config.json").unlink()
    with pytest.raises(InputError, match="draws latents, and no autoencoder"):
        load_model(tmp_path / "one")


def test_a_model_without_its_autoencoder_says_so():
    model = Model(dataclasses.replace(latent_model().config, text=None))
    with pytest.raises(InputError, match="without its autoencoder"):
        model.first_stage.encode(torch.zeros(1, 3, 8, 8))
