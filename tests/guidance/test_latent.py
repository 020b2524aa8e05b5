"""Guides of models that draw latents: those that see latents, and those that see decoded pictures."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from glide.checkpoints.load import save_model
from glide.checkpoints.provenance import fingerprint
from glide.networks.config import FirstStageConfig, ProcessConfig
from glide.networks.first_stage import LatentStage
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance.classifier.config import ClassifierConfig
from guidance.classifier.guide import classifier_guidance, clean_classifier_guidance
from guidance.classifier.load import load_classifier, save_classifier
from guidance.classifier.network import NoisyClassifier
from guidance.clip.guide import clean_clip_guidance, clip_guidance
from guidance.clip.load import load_clip, save_clip
from guidance.clip.pretrained import CleanClip
from guidance.clip.rerank import best_places, fit_of
from guidance.compatibility import check_fits
from guidance.interpolation import BetweenPredictions
from guidance.likelihood import LogLikelihood
from guidance.options import Options
from guidance.predicted_x0 import as_pictures
from support.clip_nets import tiny_clip
from support.guides import shaken
from support.latent import SIZE, latent_classifier, latent_clip, latent_model
from support.models import CAPTIONS, randomised, tiny_unet
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

PROCESS = ProcessConfig(steps=100, prediction="x0")  # no division, so latents stay small
X = torch.randn(3, 5, 8, 8, generator=torch.Generator().manual_seed(0))
PICTURES = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def model() -> Model:
    return latent_model(process=PROCESS)


@pytest.fixture(scope="module")
def pipe(model: Model) -> Pipeline:
    return Pipeline(model, dtype="float32", call_size=2)


@pytest.fixture(scope="module")
def guides(model: Model, text_model: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of guides of latents, of a weaker model, and of guides of pixels."""
    folder = tmp_path_factory.mktemp("latent-guides")
    save_classifier(folder / "classifier", latent_classifier(model))
    save_clip(folder / "clip", latent_clip(model))
    save_classifier(folder / "pixel-classifier", pixel_classifier())
    save_clip(folder / "pixel-clip", tiny_clip(text_model))
    save_model(folder / "weak", latent_model(seed=9, process=PROCESS))
    return folder


def pixel_classifier() -> NoisyClassifier:
    """Of pictures that are smaller than the model's, and clean."""
    torch.manual_seed(3)
    names, process = ("circle", "square", "star"), ProcessConfig(steps=100)
    return shaken(NoisyClassifier(ClassifierConfig(tiny_unet(3), 3, names, noised=False, process=process)))


def drawn(
    pipe: Pipeline, guidance: str, rows: range = range(3), label: int | None = None, **options: Any
) -> Tensor:
    """Latents after 3 steps of DDIM; picture i has caption and seed i, and lies in its place of a call."""
    pictures = [ImageRequest(i, CAPTIONS[i], label) for i in rows]
    settings = SamplingConfig("ddim", "3", guidance=guidance, options=Options(**options))
    *_, step = pipe.draw(pictures, settings, place=rows.start)
    return step.latents


# --- guides that see latents ---------------------------------------------------------------------------------------


def test_a_classifiers_gradient_is_autograds(model: Model) -> None:
    net = latent_classifier(model)
    found = classifier_guidance(net, 1, 2.0, model=model.config).gradient(X, 40)
    x = X.clone().requires_grad_()
    log_p = F.log_softmax(net(x, torch.full((3,), 40)), dim=1)[:, 1]
    torch.testing.assert_close(found, 2 * torch.autograd.grad(log_p.sum(), x)[0], rtol=1e-4, atol=1e-7)
    assert found.abs().amax() > 0


def test_a_clips_gradient_is_autograds(model: Model) -> None:
    net = latent_clip(model)
    found = clip_guidance(net, CAPTIONS[0], 2.0, model=model.config).gradient(X, 40)
    x = X.clone().requires_grad_()
    with torch.no_grad():
        text = net.embed_captions([CAPTIONS[0]])
    fit = net.scale * (net.encode_image(x, torch.full((3,), 40)) * text).sum()
    torch.testing.assert_close(found, 2 * torch.autograd.grad(fit, x)[0], rtol=1e-4, atol=1e-7)
    assert found.abs().amax() > 0


@pytest.mark.parametrize(
    ("guidance", "label", "options"),
    [
        ("classifier:9@0-99", 1, {"classifier": "classifier"}),
        ("classifier:9@0-99", 1, {"classifier": "classifier", "classifier_sees": "x0"}),
        ("classifier:99@0-99", 1, {"classifier": "pixel-classifier", "classifier_sees": "x0"}),
        ("clip:9@0-99", None, {"clip": "clip"}),
        ("clip:9@0-99", None, {"clip": "clip", "clip_sees": "x0"}),
        ("clip:99@0-99", None, {"clip": "pixel-clip", "clip_sees": "x0"}),
        ("auto:2", None, {"weak": "weak"}),
    ],
)
def test_guides_lead_and_a_picture_does_not_depend_on_those_beside_it(
    pipe: Pipeline, guides: Path, guidance: str, label: int | None, options: dict[str, str]
) -> None:
    given = {key: value if key.endswith("sees") else str(guides / value) for key, value in options.items()}
    together = drawn(pipe, guidance, label=label, **given)
    assert torch.equal(together[1], drawn(pipe, guidance, range(1, 2), label, **given)[0])
    assert torch.isfinite(together).all() and not torch.allclose(together, drawn(pipe, "none"), atol=1e-3)


def test_a_guides_folder_holds_its_autoencoder(model: Model, guides: Path) -> None:
    for found in (load_classifier(guides / "classifier"), load_clip(guides / "clip")):
        assert torch.equal(found.first_stage.encode(PICTURES), model.first_stage.encode(PICTURES))
        assert found.config.first_stage == model.config.first_stage
        assert (found.config.picture_size, found.config.picture_channels) == (SIZE, 3)
        assert not any("first_stage" in name for name in found.state_dict())


def test_a_clip_of_latents_ranks_pictures(model: Model) -> None:
    net = latent_clip(model)
    with torch.no_grad():
        images = net.encode_image(model.first_stage.encode(PICTURES), torch.zeros(3, dtype=torch.int64))
        expected = (images * net.embed_captions([CAPTIONS[0]])).sum(dim=1)
    assert torch.equal(fit_of(net, PICTURES, CAPTIONS[0]), expected)
    pixels = ((PICTURES + 1) * 127.5).round().byte().permute(0, 2, 3, 1)
    opaque = torch.cat([pixels, torch.full_like(pixels[..., :1], 255)], dim=-1)
    assert best_places(net, opaque, [CAPTIONS[0]], 3) == best_places(net, pixels, [CAPTIONS[0]], 3)


def test_between_two_captions(pipe: Pipeline) -> None:
    rows = [ImageRequest(0, CAPTIONS[0])]
    other = pipe.conditioner.of([ImageRequest(0, CAPTIONS[1])])
    settings = SamplingConfig("ddim", "3", guidance="none")
    *_, end = pipe.draw(rows, settings, [BetweenPredictions(1.0, other, torch.ones(1))])
    *_, wanted = pipe.draw([ImageRequest(0, CAPTIONS[1])], settings)
    torch.testing.assert_close(end.latents, wanted.latents, rtol=0, atol=1e-3)


def test_a_function_of_latents_guides(pipe: Pipeline) -> None:
    pull = LogLikelihood(lambda x, t: x.sum(dim=(1, 2, 3)), 1.0, (0, 50))  # upwards
    settings = SamplingConfig("ddim", "3", guidance="none")
    *_, led = pipe.draw([ImageRequest(0, CAPTIONS[0])], settings, [pull])
    *_, free = pipe.draw([ImageRequest(0, CAPTIONS[0])], settings)
    assert led.latents.mean() > free.latents.mean() + 0.01


# --- guides that see decoded pictures ------------------------------------------------------------------------------


class Same:
    """An autoencoder that changes nothing."""

    factor, latent_channels, picture_channels = 1, 3, 3

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, latents: Tensor) -> Tensor:
        return latents


def clean_clip() -> CleanClip:
    weight = torch.randn(3 * 4 * 4, 6, generator=torch.Generator().manual_seed(2))

    def text(captions: list[str]) -> Tensor:
        return torch.eye(6)[: len(captions)]

    return CleanClip(lambda x: x.flatten(1).sin() @ weight, text, 4)


def x0_of(x: Tensor, t: int) -> Tensor:
    return 0.5 * torch.tanh(x)


def test_a_decoder_that_changes_nothing_leaves_the_gradient_of_pixels() -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    stage = LatentStage(Same(), FirstStageConfig("", "", 1, 3))
    clip = clean_clip()
    plain = clean_clip_guidance(clip, CAPTIONS[0], 3.0, x0_of).gradient(x, 5)
    assert torch.equal(
        plain, clean_clip_guidance(clip, CAPTIONS[0], 3.0, x0_of, first_stage=stage).gradient(x, 5)
    )


def test_the_gradient_of_a_clean_clip_passes_the_decoder(model: Model) -> None:
    clip, stage = clean_clip(), model.first_stage
    found = clean_clip_guidance(clip, CAPTIONS[0], 3.0, x0_of, first_stage=stage).gradient(X, 5)
    x = X.clone().requires_grad_()
    fit = clip.scale * (clip.embed_images(stage.decode(x0_of(x, 5))) * torch.eye(6)[:1]).sum()
    torch.testing.assert_close(found, 3 * torch.autograd.grad(fit, x)[0], rtol=1e-4, atol=1e-6)
    assert found.abs().amax() > 0
    parts = clean_clip_guidance(clip, CAPTIONS[0], 3.0, x0_of, first_stage=stage, call_size=1)
    one = clean_clip_guidance(clip, CAPTIONS[0], 3.0, x0_of, first_stage=stage).gradient(X[1:2], 5)
    assert torch.equal(parts.gradient(X, 5)[1:2], one)


def test_the_gradient_of_a_classifier_of_pixels_passes_the_decoder(model: Model) -> None:
    net, stage = pixel_classifier(), model.first_stage
    side = net.config.picture_size
    assert side < SIZE
    guidance = clean_classifier_guidance(net, "star", 3.0, x0_of, first_stage=stage)
    found = guidance.gradient(X, 5)
    x = X.clone().requires_grad_()
    pictures = F.interpolate(stage.decode(x0_of(x, 5)), (side, side), mode="bicubic", antialias=True)
    log_p = F.log_softmax(net(pictures, torch.zeros(3, dtype=torch.int64)), dim=1)[:, 2]
    torch.testing.assert_close(found, 3 * torch.autograd.grad(log_p.sum(), x)[0], rtol=1e-4, atol=1e-6)
    assert found.abs().amax() > 0


def test_a_classifier_of_the_same_latents_sees_the_predicted_ones(model: Model) -> None:
    net = latent_classifier(model)
    found = clean_classifier_guidance(net, 1, 2.0, x0_of, first_stage=model.first_stage, model=model.config)
    x = X.clone().requires_grad_()
    log_p = F.log_softmax(net(x0_of(x, 5), torch.zeros(3, dtype=torch.int64)), dim=1)[:, 1]
    expected = 2 * torch.autograd.grad(log_p.sum(), x)[0]
    torch.testing.assert_close(found.gradient(X, 5), expected, rtol=1e-4, atol=1e-7)
    with pytest.raises(InputError, match="got a classifier of latents for a model that draws pixels"):
        clean_classifier_guidance(net, 1, 2.0, x0_of)


def test_grey_pictures_are_shown_in_colour_and_others_are_refused() -> None:
    grey = torch.rand(2, 1, 8, 8)
    stage = LatentStage(Same(), FirstStageConfig("", "", 1, 3))
    assert torch.equal(as_pictures(stage, grey, 3, "CLIP"), grey.expand(2, 3, 8, 8))
    with pytest.raises(InputError, match="got a CLIP of 3 channels for pictures of 4"):
        as_pictures(stage, torch.rand(2, 4, 8, 8), 3, "CLIP")


# --- what does not fit ---------------------------------------------------------------------------------------------


def test_what_does_not_fit(model: Model, text_model: Model, guides: Path, pipe: Pipeline) -> None:
    config, ours = model.config, model.config.first_stage
    assert ours is not None
    other = dataclasses.replace(ours, fingerprint="0123456789abcdef")
    fits: tuple[Any, ...] = ("classifier", 8, 5, config.process)
    check_fits(*fits, config, dataclasses.replace(ours, source="elsewhere"))
    with pytest.raises(
        InputError, match="got a classifier of pixels for a model that draws latents, expected one of"
    ):
        check_fits(*fits, config)
    with pytest.raises(
        InputError, match="got a classifier of latents for a model that draws pixels, expected"
    ):
        check_fits(*fits, text_model.config, ours)
    with pytest.raises(
        InputError, match=r"other autoencoder \(0123456789abcdef\) than the model's \(\w{16}\)"
    ):
        check_fits(*fits, config, other)
    with pytest.raises(InputError, match="got a classifier of 16x16 latents for a model of 8x8"):
        check_fits("classifier", 16, 5, config.process, config, ours)
    with pytest.raises(InputError, match=r"noisy classifier of pixels .* latents.* \(--classifier-sees x0\)"):
        drawn(pipe, "classifier", label=1, classifier=str(guides / "pixel-classifier"))
    with pytest.raises(InputError, match=r"noisy CLIP of pixels .* latents.* \(--clip-sees x0\)"):
        drawn(pipe, "clip", clip=str(guides / "pixel-clip"))
    with pytest.raises(InputError, match="got a CLIP of latents for a model that draws pixels"):
        clean_clip_guidance(latent_clip(model), CAPTIONS[0], 1.0, x0_of)
    with pytest.raises(InputError, match="got 3x8x8 numbers for a CLIP of 5x8x8, expected the same"):
        latent_clip(model).embed_clean(torch.zeros(1, 3, 8, 8))
    (guides / "classifier" / "first_stage" / "config.json").rename(guides / "away.json")
    with pytest.raises(InputError, match="no autoencoder"):
        load_classifier(guides / "classifier")
    (guides / "away.json").rename(guides / "classifier" / "first_stage" / "config.json")


def test_a_weaker_model_of_other_latents_is_refused(pipe: Pipeline, tmp_path: Path) -> None:
    weak = randomised(latent_model(process=PROCESS), 3)
    stage = weak.first_stage
    assert isinstance(stage, LatentStage)
    autoencoder: Any = stage.autoencoder
    autoencoder.stem.weight.data.mul_(2)
    config = dataclasses.replace(stage.config, fingerprint=fingerprint(autoencoder))
    weak.config = dataclasses.replace(weak.config, first_stage=config)
    weak.first_stage = LatentStage(autoencoder, config)
    save_model(tmp_path / "weak", weak)
    with pytest.raises(InputError, match="got a weaker model of the latents of another autoencoder"):
        drawn(pipe, "auto:2", weak=str(tmp_path / "weak"))
