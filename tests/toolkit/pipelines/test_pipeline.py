"""The pipeline: against a loop written out, and what it promises about batches, seeds and conditions."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from glide.checkpoints.load import load_model
from glide.checkpoints.provenance import fingerprint
from glide.networks.config import ModelConfig, ProcessConfig
from glide.networks.image_request import ImageRequest, KnownPixels
from glide.networks.model import Model
from glide.utils.class_names import class_number
from glide.utils.errors import InputError
from glide.utils.images import to_uint8
from support.models import CAPTIONS, CLASSES, close, randomised, tiny_unet
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    return Pipeline(text_model, "tiny", call_size=2)


@pytest.fixture(scope="module")
def class_pipe(class_model: Model) -> Pipeline:
    return Pipeline(class_model, "classes", call_size=2)


def untrained(**changes: Any) -> Model:
    """A model with no condition but those asked for."""
    config = replace(
        ModelConfig(tiny_unet(3), process=ProcessConfig(steps=100, variance="fixed_small")), **changes
    )
    return randomised(Model(config), seed=3)


# --- one picture ----------------------------------------------------------------------------------------------------


def test_like_the_loop_written_out(pipe: Pipeline, text_model: Model) -> None:
    """DDIM (2010.02502, eq. 12) with guidance in epsilon (2207.12598, eq. 6) and x0 clipped, by hand."""
    scale, keep = 3.0, [0, 33, 66, 99]
    cond = text_model.condition(text_model.caption_batch([RED]))
    null = text_model.condition(text_model.caption_batch([""]))
    alpha_bar = [1.0, *text_model.process.alpha_bar[keep].tolist()]
    x = torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(7))[None]
    with torch.no_grad():
        for i in reversed(range(len(keep))):
            t = torch.tensor([keep[i]])
            eps, eps_null = (text_model.unet(x, t, c)[:, :3] for c in (cond, null))
            eps = eps_null + scale * (eps - eps_null)
            now, after = alpha_bar[i + 1], alpha_bar[i]
            x0 = ((x - (1 - now) ** 0.5 * eps) / now**0.5).clamp(-1, 1)
            eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
            x = after**0.5 * x0 + (1 - after) ** 0.5 * eps
    drawn = pipe(RED, guidance_scale=scale, num_inference_steps=4, seed=7, sampler="ddim").tensors
    close(drawn, x)


def test_a_model_that_is_loaded_here_has_no_copy_in_float32(text_folder: Path) -> None:
    own = Pipeline.from_pretrained(text_folder, "cpu", "bfloat16")
    assert own.unet is own.model.unet and own.unet.stem.weight.dtype == torch.bfloat16
    model = load_model(text_folder)
    other = Pipeline(model, dtype="bfloat16")
    assert model.unet.stem.weight.dtype == torch.float32 and other.unet is not model.unet
    first, second = (pipe(RED, num_inference_steps=2, seed=1).tensors for pipe in (own, other))
    assert torch.equal(first, second) and own.fingerprint == other.fingerprint


def test_the_face(pipe: Pipeline) -> None:
    seen: list[tuple[int, int, Tensor]] = []
    result = pipe(
        [RED, SQUARE],
        num_inference_steps=5,
        num_images_per_prompt=2,
        seed=3,
        sampler="ddim",
        callback_on_step_end=lambda index, t, x: seen.append((index, t, x.clone())),
    )
    assert [(index, t) for index, t, _ in seen] == [(0, 99), (1, 74), (2, 50), (3, 25), (4, 0)]
    assert torch.equal(seen[-1][2], result.tensors) and result.tensors.shape == (4, 3, 8, 8)
    assert result.tensors.dtype == torch.float32 and result.tensors.abs().max() <= 1
    assert all(isinstance(image, Image.Image) and image.size == (8, 8) for image in result.images)
    assert list(result.images[1].tobytes()) == to_uint8(result.tensors)[1].flatten().tolist()
    assert [(r["prompt"], r["seed"]) for r in result.recipes] == [
        (RED, 3),
        (RED, 4),
        (SQUARE, 5),
        (SQUARE, 6),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "steps"), [(7, 7), ("ddim50", 50), ("fast27", 27), ("3,2,1", 6)])
def test_steps(pipe: Pipeline, spec: int | str, steps: int) -> None:
    seen: list[int] = []
    pipe(RED, num_inference_steps=spec, seed=0, callback_on_step_end=lambda index, t, x: seen.append(t))
    assert len(seen) == steps == pipe.steps(SamplingConfig(respacing=str(spec))) and seen == sorted(
        seen, reverse=True
    )


def test_conditions_and_guidance_are_seen(pipe: Pipeline) -> None:
    def draw(caption: str, scale: float) -> Tensor:
        return pipe(caption, guidance_scale=scale, num_inference_steps=3, seed=0).tensors

    assert not torch.allclose(draw(RED, 1.0), draw(SQUARE, 1.0), atol=1e-3)
    assert not torch.allclose(draw(RED, 1.0), draw(RED, 3.0), atol=1e-3)
    # scale 0 is the unconditional model, whatever the caption
    close(draw(RED, 0.0), draw("", 1.0))


def test_ddpm_uses_the_models_variance(pipe: Pipeline) -> None:
    drawn = pipe(RED, num_inference_steps=4, sampler="ddpm", seed=0).tensors
    assert torch.isfinite(drawn).all()
    assert not torch.equal(drawn, pipe(RED, num_inference_steps=4, sampler="ddim", seed=0).tensors)
    assert torch.equal(drawn, pipe(RED, num_inference_steps=4, sampler="ddpm", seed=0).tensors)


# --- seeds ----------------------------------------------------------------------------------------------------------


def test_generators(pipe: Pipeline) -> None:
    def seeds(generator: torch.Generator | list[torch.Generator] | None) -> list[int]:
        result = pipe([RED, SQUARE], num_inference_steps=1, generator=generator)
        return [recipe["seed"] for recipe in result.recipes]

    one = seeds(torch.Generator().manual_seed(1))
    assert one == seeds(torch.Generator().manual_seed(1)) and one[0] != one[1]
    assert one[:1] * 2 == seeds([torch.Generator().manual_seed(1) for _ in range(2)])
    torch.manual_seed(1)  # without a generator, torch's own
    assert seeds(None) == one != seeds(None)
    with pytest.raises(InputError, match="1 generators for 2 pictures"):
        seeds([torch.Generator()])
    with pytest.raises(InputError, match="a seed and a generator"):
        pipe(RED, seed=1, generator=torch.Generator())


# --- conditions -----------------------------------------------------------------------------------------------------


def test_each_caption_is_encoded_once(text_model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = Pipeline(text_model)
    captions: list[str] = []
    caption_batch = text_model.caption_batch

    def watched(texts: list[str]) -> dict[str, Tensor]:
        captions.extend(texts)
        return caption_batch(texts)

    monkeypatch.setattr(text_model, "caption_batch", watched)
    pipe([RED, SQUARE], num_images_per_prompt=2, num_inference_steps=3, seed=0)
    assert sorted(captions) == sorted(["", RED, SQUARE])
    captions.clear()
    pipe(RED, num_inference_steps=1, seed=0)
    assert captions == [RED]  # null is known by now


def test_classes_by_name_and_number(class_pipe: Pipeline) -> None:
    result = class_pipe(label=["Banana", 1, "golden retriever"], num_inference_steps=2, seed=0)
    assert [recipe["class"] for recipe in result.recipes] == ["banana", "banana", "golden retriever"]
    assert not torch.allclose(result.tensors[1], result.tensors[2], atol=1e-3)
    assert len(class_pipe(num_inference_steps=1).images) == 1  # no label: the null class


@pytest.mark.parametrize(
    ("label", "said"),
    [
        ("aple", "did you mean 'apple'"),
        ("retriever", "'golden retriever'"),
        ("goldfish", "'gold fish'"),
        ("zzz", "expected one of apple, banana"),
        (5, "expected 0 to 4"),
        ("-1", "expected 0 to 4"),
    ],
)
def test_unknown_classes(class_model: Model, label: str | int, said: str) -> None:
    with pytest.raises(InputError, match=said):
        class_number(class_model.config, label)


def test_class_numbers(class_model: Model) -> None:
    assert [class_number(class_model.config, name) for name in CLASSES] == list(range(5))
    assert class_number(class_model.config, "3") == 3
    nameless = replace(class_model.config, class_names=())
    with pytest.raises(InputError, match="have no names: give a number, 0 to 4"):
        class_number(nameless, "apple")


def test_models_without_a_null() -> None:
    plain = Pipeline(untrained())
    assert len(plain(num_inference_steps=2).images) == 1  # no guidance, without asking
    with pytest.raises(InputError, match="no condition at all"):
        plain(guidance_scale=3.0)
    labelled = Pipeline(untrained(num_classes=3))
    with pytest.raises(InputError, match="no null class"):
        labelled(label=1, guidance_scale=3.0)
    with pytest.raises(InputError, match="no class for a model that needs one, expected 0 to 2"):
        labelled()


def test_models_with_planes() -> None:
    inpaint = Pipeline(untrained(inpaint=True))  # without a picture to keep, it draws everything
    assert inpaint(num_inference_steps=2).tensors.shape == (1, 3, 8, 8)
    with pytest.raises(InputError, match="upsampler"):
        Pipeline(untrained(low_res=True))(num_inference_steps=2)


def test_known_pixels_stay_and_reach_every_condition() -> None:
    """Classifier-free guidance: the null condition has no planes of its own, and must see those of the picture."""
    pipe = Pipeline(untrained(inpaint=True, num_classes=3, null_class=True))
    image, mask = torch.rand(3, 8, 8) * 2 - 1, torch.zeros(1, 8, 8)
    mask[:, :, :5] = 1
    pictures = [ImageRequest(i, label=i, given=KnownPixels(image=image, mask=mask)) for i in range(2)]
    cond = pipe.conditioner.of(pictures)
    assert cond.planes is not None and torch.equal(cond.planes[1], torch.cat([image * mask, mask]))
    shared = pipe.conditioner.null().sharing_planes(cond)
    assert shared.planes is cond.planes and shared.rows == 2
    for settings in (
        SamplingConfig("ddim", "4", 0.0, "cfg", 3.0),
        SamplingConfig("ddpm", "4", 0.0, "cfg", 3.0),
    ):
        *_, step = pipe.draw(pictures, settings)
        assert torch.equal(step.x[:, :, :, :5], image[:, :, :5].expand(2, -1, -1, -1))
        assert not torch.equal(step.x[0, :, :, 5:], step.x[1, :, :, 5:])


def test_another_size_than_the_models() -> None:
    pipe = Pipeline(untrained(low_res=True))
    picture = ImageRequest(0, given=KnownPixels(low_res=torch.zeros(3, 6, 4)))
    *_, step = pipe.draw([picture], SamplingConfig("ddim", "2", 0.0, "none"), size=(24, 16))
    assert step.x.shape == (1, 3, 24, 16)


# --- the rest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_only_the_inner_network_is_in_reduced_precision(text_model: Model, dtype: torch.dtype) -> None:
    seen: dict[str, torch.dtype] = {}
    pipe = Pipeline(text_model, dtype=dtype)
    unet = pipe.unet
    watched = {"text": text_model.text_vector, "time": unet.time_out, "stem": unet.stem, "head": unet.head}
    watched |= {"block": unet.middle_in, "softmax": unet.middle_in.attn, "norm": unet.norm}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, name=name: seen.update({name: output.dtype}))
        for name, module in watched.items()
    ]
    drawn = pipe(RED, num_inference_steps=3, seed=0).tensors
    for hook in hooks:
        hook.remove()
    exact = dict.fromkeys(("text", "time", "norm", "head"), torch.float32)
    assert seen == exact | dict.fromkeys(("stem", "block", "softmax"), dtype)
    assert drawn.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in text_model.parameters())  # the model itself stays as it was
    exact = Pipeline(text_model)(RED, num_inference_steps=3, seed=0).tensors
    assert not torch.equal(drawn, exact)
    assert (drawn - exact).abs().mean() < 0.1


def test_from_a_folder(text_folder: Path, pipe: Pipeline) -> None:
    loaded = Pipeline.from_pretrained(str(text_folder), device="cpu", call_size=2)
    assert loaded.fingerprint == pipe.fingerprint
    assert torch.equal(
        loaded(RED, num_inference_steps=2, seed=0).tensors, pipe(RED, num_inference_steps=2, seed=0).tensors
    )


def test_the_fingerprint_is_of_the_weights(class_model: Model) -> None:
    before = fingerprint(class_model)
    class_model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert fingerprint(class_model) == before and len(before) == 16
    weight = class_model.label.weight
    with torch.no_grad():
        kept = weight[0, 0].clone()
        weight[0, 0] += 1
        assert fingerprint(class_model) != before
        weight[0, 0] = kept
    assert fingerprint(class_model) == before


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sampler": "magic"}, "'magic', expected ddim or ddpm"),
        ({"spacing": "even"}, "'even', expected uniform or"),
        ({"num_inference_steps": 0}, "0 steps"),
        ({"num_inference_steps": 101}, "101 steps, expected 1 to 100"),
        ({"num_inference_steps": "ddim60"}, "whole stride"),
        ({"guidance_scale": -1.0}, "scale -1"),
        ({"eta": 1.5}, "eta 1.5"),
        ({"eta": 0.5, "sampler": "ddpm"}, "eta 0.5 for the sampler ddpm"),
        ({"prompt": ""}, "empty caption"),
        ({"prompt": []}, "no prompt"),
        ({"label": 1}, "without classes"),
        ({"num_images_per_prompt": 0}, "num_images_per_prompt 0"),
        ({"seed": -1}, "seed -1"),
    ],
)
def test_refused(pipe: Pipeline, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        pipe(**{"prompt": RED, "num_inference_steps": 2, **changes})


def test_a_caption_for_a_model_without_text(class_pipe: Pipeline) -> None:
    with pytest.raises(InputError, match="without text"):
        class_pipe("a red circle")


@pytest.mark.parametrize(
    ("what", "said"), [({"device": "nowhere"}, "'nowhere'"), ({"dtype": "int8"}, "'int8'")]
)
def test_no_such_place_or_type(text_folder: Path, what: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Pipeline.from_pretrained(str(text_folder), **what)
