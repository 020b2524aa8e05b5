"""Network calls of one size: the same picture whatever is drawn beside it, and guidances that see only the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.diffusion.denoiser import Prediction, Predictor
from glide.networks.config import ModelConfig
from glide.networks.fixed_batch import call_size_of, default_call_size
from glide.networks.image_request import ImageRequest
from glide.networks.layers import ROWS, linear_by_rows
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance import ClassifierFree, LogLikelihood
from guidance.base import Guidance
from support.models import CAPTIONS, close, tiny_unet
from toolkit import Pipeline
from toolkit.commands.sample import batches
from toolkit.pipelines.padding import Padding
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    return Pipeline(text_model, "tiny", call_size=2)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_the_same_picture_whatever_the_batch(text_model: Model, dtype: str, sampler: str) -> None:
    pipe = Pipeline(text_model, dtype=dtype, call_size=3)
    settings = SamplingConfig(sampler, "4", eta=0.5 if sampler == "ddim" else 0.0)
    pictures = [ImageRequest(i, CAPTIONS[i % 3]) for i in range(7)]

    def run(size: int, some: list[ImageRequest] = pictures, place: int = 0) -> Tensor:
        parts = []
        for start, batch in batches(some, size, pipe.call_size, place):
            *_, last = pipe.draw(batch, settings, place=place + start)
            parts.append(last.x)
        return torch.cat(parts)

    whole = run(100)
    assert torch.equal(whole, run(1)) and torch.equal(whole, run(4))
    assert torch.equal(whole[4:5], run(1, pictures[4:5], place=4))  # alone, as --like draws it
    assert torch.equal(whole[2:6], run(2, pictures[2:6], place=2))


def test_network_calls_have_one_shape(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: set[int] = set()
    forward = pipe.model.unet.forward

    def watched(x: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        rows.add(len(x))
        assert len(t) == cond.rows == len(x) and x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        return forward(x, t, cond)

    monkeypatch.setattr(pipe.model.unet, "forward", watched)
    for count in (1, 2, 5):
        pipe([RED] * count, num_inference_steps=2, seed=0)
    assert rows == {2 * pipe.call_size}


def test_places() -> None:
    places = Padding.of(pictures=4, first=2, size=3)
    assert (places.front, places.back, places.real) == (2, 0, slice(2, 6))
    assert places.fill(torch.arange(4)).tolist() == [0, 0, 0, 1, 2, 3]
    assert Padding.of(4, 0, 3).fill(torch.arange(4)).tolist() == [0, 1, 2, 3, 3, 3]


def test_calls_change_nothing_else(text_model: Model) -> None:
    predict = Predictor(text_model.unet, text_model.process)
    in_calls = Predictor(text_model.unet, text_model.process, call_size=2)
    cond = text_model.condition(text_model.caption_batch([RED, SQUARE] * 2))
    null = text_model.condition(text_model.caption_batch([""]))
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        pairs = zip(predict(x, 50, [cond, null]), in_calls(x, 50, [cond, null]), strict=True)
    for whole, parts in pairs:
        torch.testing.assert_close(parts.x0, whole.x0, rtol=0, atol=1e-4)
        torch.testing.assert_close(parts.v, whole.v, rtol=0, atol=1e-4)


def test_call_size_follows_model_and_machine() -> None:
    small = Model(ModelConfig(tiny_unet(3)))
    assert default_call_size(small, torch.device("cpu")) == 8
    assert default_call_size(small, torch.device("cuda")) == 32
    with torch.device("meta"):
        large = Model(ModelConfig())  # ADM at 64x64, 296 M parameters
    assert default_call_size(large, torch.device("cpu")) == 1
    sizes = {1: 1, 2: 2, 8: 8, 9: 5, 16: 8, 17: 6, 1000: 8}
    assert {count: call_size_of(count, 8) for count in sizes} == sizes
    with pytest.raises(InputError, match="call size 0"):
        Pipeline(small, call_size=0)


@pytest.mark.slow
def test_a_run_of_one_and_a_run_of_many(text_model: Model) -> None:
    """Without a call size it follows the run: recipes say which, and pictures differ by rounding alone."""
    pipe = Pipeline(text_model)
    many = pipe([RED, SQUARE] * 5, seed=3)
    alone = [pipe([RED, SQUARE][i % 2], seed=3 + i) for i in range(10)]
    assert [recipe["call_size"] for recipe in many.recipes] == [5] * 10
    assert [recipe["place"] for recipe in many.recipes] == [*range(5), *range(5)]
    assert [one.recipes[0]["call_size"] for one in alone] == [1] * 10
    for i, one in enumerate(alone):
        ours, theirs = (np.asarray(image).astype(int) for image in (many.images[i], one.images[0]))
        assert np.abs(ours - theirs).max() <= 1
    run = pipe.for_run(10)
    assert run.call_size == 5 and run.unet is pipe.unet and run.for_run(3) is run
    pictures = [ImageRequest(3 + i, [RED, SQUARE][i % 2]) for i in range(10)]
    *_, last = run.draw(pictures[5:], SamplingConfig(), place=5)
    assert torch.equal(last.x, many.tensors[5:])


# --- further guidances ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Watched(Guidance):
    """Sees what it is called with, and moves every picture by an amount of its own."""

    amounts: Tensor  # [N]
    null: Conditioning  # [N,...]
    scale: float = 1.0
    interval: tuple[int, int] = (50, 100)

    @property
    def references(self) -> tuple[Conditioning, ...]:
        return (self.null,)

    def shift(self, main: Prediction, references: Sequence[Prediction]) -> Tensor:
        (reference,) = references
        assert len(main.x0) == len(reference.x0) == len(self.amounts)
        return self.amounts[:, None, None, None].expand(-1, 3, 8, 8)

    def gradient(self, x: Tensor, t: int) -> Tensor:
        assert len(x) == len(self.amounts) and t >= 50
        return torch.zeros_like(x)


def test_a_guidance_made_for_the_pictures_alone(pipe: Pipeline) -> None:
    """Three pictures fill two calls of two; a guidance for three rows sees three."""
    captions = [RED, SQUARE, RED]
    null = pipe.conditioner.null().repeat(3)
    amounts = torch.tensor([0.0, 0.5, 0.0])
    plain = pipe(captions, num_inference_steps=4, seed=0).tensors
    moved = pipe(captions, num_inference_steps=4, seed=0, guidances=[Watched(amounts, null)]).tensors
    # not bit for bit: a further reference makes the network call larger
    close(moved[::2], plain[::2])
    assert not torch.allclose(moved[1], plain[1], atol=1e-1)
    again = pipe(
        captions, guidance_scale=1.0, num_inference_steps=4, seed=0, guidances=[ClassifierFree(3.0, null)]
    )
    close(again.tensors, plain)


def test_a_likelihood_pulls(pipe: Pipeline) -> None:
    def brightness(x: Tensor, t: int) -> Tensor:
        return x.mean(dim=(1, 2, 3))

    plain = pipe(RED, num_inference_steps=10, seed=0).tensors.mean()
    bright = pipe(
        RED, num_inference_steps=10, seed=0, guidances=[LogLikelihood(brightness, 200.0)]
    ).tensors.mean()
    assert bright > plain + 0.1


def test_few_rows_are_multiplied_as_many_are() -> None:
    generator = torch.Generator().manual_seed(0)
    layer = torch.nn.Linear(192, 48)
    x = torch.randn(ROWS, 192, generator=generator)
    for dtype in (torch.float32, torch.bfloat16):
        layer, x = layer.to(dtype), x.to(dtype)
        with torch.no_grad():
            whole = layer(x)
            for rows in range(1, ROWS + 1):
                assert torch.equal(linear_by_rows(layer, x[:rows], torch.bfloat16), whole[:rows])
        assert linear_by_rows(layer, x[:3], torch.bfloat16).requires_grad
