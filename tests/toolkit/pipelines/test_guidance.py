"""Guidances by name, in the pipeline: with the networks that they need, whatever the batch size, all at once."""

import copy
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glide.checkpoints import load as load
from glide.checkpoints.load import save_model
from glide.networks.config import ModelConfig, ProcessConfig
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.utils.errors import InputError
from guidance import ClassifierFree, with_strength
from guidance.adaptive_projected import AdaptiveProjected
from guidance.clip.guide import clean_clip_guidance
from guidance.clip.load import load_clip
from guidance.condition_annealing import ConditionAnnealing
from guidance.options import Options
from guidance.predicted_x0 import through_network
from guidance.scheduled import Scheduled
from guidance.spec import GuidanceSpec
from support.guides import guides as guides
from support.models import CAPTIONS, CLASSES, close, randomised, tiny_unet
from toolkit import Pipeline
from toolkit.commands.sample import batches
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE, STARS = CAPTIONS
ALL = ("cfg:3", "apg:4@10-90", "pag:2", "auto:2", "cads:0.2@20-90", "classifier:5@0-80", "clip:20")


@pytest.fixture(scope="module")
def pipe(text_model: Model) -> Pipeline:
    return Pipeline(text_model, "tiny", call_size=2)


MIXED = (
    "none", "cfg:3", "pag:2", "apg:4@10-90", "auto:2", "clip:20", "classifier:5@0-80", ("cfg:3", "pag:2", "cads:0.2")
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("owned", [False, True])
def test_threads_that_share_a_pipeline(text_model: Model, guides: Options, owned: bool) -> None:
    """Eight at once, each with another guidance, sampler and number of pictures: bit for bit as alone."""
    model = copy.deepcopy(text_model)
    pipe = Pipeline(model, owned=owned)  # owned: its weights lie in the orders of what it was last given

    def draw(i: int) -> Tensor:
        how = SamplingConfig(
            "ddim" if i % 2 else "dpmpp-2m", "6", 0.0, MIXED[i], options=guides, deep_every=1 + (i == 1)
        )
        *_, step = pipe.draw([ImageRequest(j, CAPTIONS[j % 2], j % 3) for j in range(1 + i % 3)], how)
        return step.x

    alone = [draw(i) for i in range(len(MIXED))]
    with ThreadPoolExecutor(len(MIXED)) as threads:
        together = list(threads.map(draw, [*range(len(MIXED))] * 3))
    for i, drawn in enumerate(together):
        assert torch.equal(drawn, alone[i % len(MIXED)]), MIXED[i % len(MIXED)]


def last(
    pipe: Pipeline, settings: SamplingConfig, pictures: Sequence[ImageRequest], size: int, place: int = 0
) -> Tensor:
    parts = []
    for start, batch in batches(pictures, size, pipe.call_size, place):
        *_, step = pipe.draw(batch, settings, place=place + start)
        parts.append(step.x)
    return torch.cat(parts)


@pytest.mark.slow
def test_all_at_once_whatever_the_batch(pipe: Pipeline, guides: Options) -> None:
    """Every built-in guidance together: the same picture alone, in parts and in a run, and finite."""
    options = dataclasses.replace(guides, rescale=0.7, threshold=0.9, negative=STARS)
    pictures = [ImageRequest(i, CAPTIONS[i % 2], i % 3) for i in range(5)]
    for sampler in ("ddim", "ddpm"):
        settings = SamplingConfig(sampler, "4", 0.0, ALL, options=options)
        whole = last(pipe, settings, pictures, 100)
        assert torch.isfinite(whole).all()
        assert torch.equal(whole, last(pipe, settings, pictures, 1))
        assert torch.equal(whole[3:4], last(pipe, settings, pictures[3:4], 1, place=3))


@pytest.mark.slow
@pytest.mark.parametrize("term", ALL)
def test_each_changes_the_picture_but_not_at_no_strength(pipe: Pipeline, guides: Options, term: str) -> None:
    def drawn(guidance: str) -> Tensor:
        return last(
            pipe, SamplingConfig("ddim", "4", 0.0, guidance, options=guides), [ImageRequest(1, RED, 2)], 1
        )

    plain, name = drawn("none"), GuidanceSpec.parse(term).name
    none = 1 if name in ("cfg", "apg", "auto") else 0
    assert torch.equal(drawn(f"{name}:{none}"), plain)
    never = "101-200" if name == "cads" else "1-2"  # there is no such timestep in four steps
    assert torch.equal(drawn(f"{name}@{never}"), plain)
    assert not torch.allclose(drawn(term), plain, atol=1e-3)


@pytest.mark.slow
def test_by_name_and_by_object(pipe: Pipeline, text_model: Model) -> None:
    def drawn(**flags: Any) -> Tensor:
        return pipe([RED, SQUARE], num_inference_steps=4, seed=3, **flags).tensors

    assert torch.equal(drawn(guidances=["cfg:4"]), drawn(guidance_scale=4.0))
    null = pipe.conditioner.null()
    by_object = AdaptiveProjected(ClassifierFree(4.0, null, (10, 90)), 0.5, 3.0, -0.2)
    options = Options(apg_eta=0.5, apg_norm=3.0, apg_momentum=-0.2)
    by_name = drawn(guidances=["apg:4@10-90"], options=options)
    close(drawn(guidance_scale=1.0, guidances=[by_object]), by_name)
    annealing = ConditionAnnealing(
        0.2, [3, 4], (80, 100)
    )  # made for the pictures alone, in calls that have more places
    close(drawn(guidance_scale=1.0, guidances=[annealing]), drawn(guidances=["cads:0.2"]))
    # beside names, cfg is there only where it is asked for
    assert torch.equal(drawn(guidances=["pag:1"]), drawn(guidance_scale=1.0, guidances=["pag:1"]))
    assert torch.equal(drawn(guidances=["cfg:2", "pag:1"]), drawn(guidance_scale=2.0, guidances=["pag:1"]))


def test_a_strength_that_depends_on_the_timestep(pipe: Pipeline) -> None:
    """By text, as a function and as an object: the same picture; at timesteps without effect no call is made for it."""

    def drawn(**flags: Any) -> Tensor:
        return pipe([RED, SQUARE], num_inference_steps=4, seed=3, **flags).tensors

    by_text = drawn(guidances=["cfg:1..4"])
    assert torch.equal(drawn(guidance_scale=lambda share: 1.0 + 3.0 * (1.0 - share)), by_text)
    ramp = Scheduled(
        ClassifierFree(4.0, pipe.conditioner.null()), GuidanceSpec.parse("cfg:1..4").strength, 100
    )
    close(drawn(guidance_scale=1.0, guidances=[ramp]), by_text)
    assert not torch.allclose(by_text, drawn(guidance_scale=4.0), atol=1e-3)
    # a constant one is the number, bit for bit
    assert torch.equal(drawn(guidance_scale=lambda share: 3.0), drawn(guidance_scale=3.0))
    assert torch.equal(drawn(guidances=["cfg:3..3", "pag:2..2~exp"]), drawn(guidances=["cfg:3", "pag:2"]))
    assert torch.equal(drawn(guidances=["cfg:1~cos", "pag:0~cos"]), drawn(guidance_scale=1.0))


def test_an_interval_is_a_schedule(pipe: Pipeline) -> None:
    """A function that is constant there and has no effect elsewhere: the same picture, by as many calls."""
    inside = with_strength("cfg", lambda share: 3.0 if 0.2 <= share <= 0.8 else 1.0)
    sizes: list[int] = []
    hook = pipe.unet.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0])))
    with hook:
        drawn = []
        for guidance in ("cfg:3@20-80", inside):
            # at timesteps 99, 66, 33 and 0: without, with, with and without guidance
            settings = SamplingConfig("ddim", "4", 0.0, guidance)
            drawn.append(last(pipe, settings, [ImageRequest(1, RED)], 1))
            drawn.append(torch.tensor(sizes))
            sizes.clear()
    assert drawn[1].tolist() == drawn[3].tolist() == [2, 4, 4, 2]
    assert torch.equal(drawn[0], drawn[2])


def test_negative_captions(pipe: Pipeline, text_model: Model, class_model: Model) -> None:
    def drawn(pipe: Pipeline, **flags: Any) -> Tensor:
        return pipe(num_inference_steps=3, seed=0, **flags).tensors

    cond = pipe.conditioner.of([ImageRequest(0, STARS)])
    away = drawn(pipe, prompt=RED, guidance_scale=3.0, options=Options(negative=STARS))
    close(drawn(pipe, prompt=RED, guidance_scale=1.0, guidances=[ClassifierFree(3.0, cond)]), away)
    assert not torch.allclose(away, drawn(pipe, prompt=RED), atol=1e-3)
    # no caption, but something to be led away from
    drawn(pipe, prompt="", options=Options(negative=STARS))
    classes = Pipeline(class_model, call_size=2)
    by_name = drawn(classes, label="apple", options=Options(negative="banana"))
    assert torch.equal(by_name, drawn(classes, label="apple", options=Options(negative="1")))
    assert not torch.allclose(by_name, drawn(classes, label="apple"), atol=1e-3)
    with pytest.raises(InputError, match="'pear'"):
        drawn(classes, label="apple", options=Options(negative="pear"))


@pytest.mark.slow
def test_a_negative_class_needs_no_null_class() -> None:
    process = ProcessConfig(steps=100, variance="fixed_small")
    model = Model(ModelConfig(tiny_unet(3), None, len(CLASSES), False, CLASSES, process=process))
    pipe = Pipeline(randomised(model, 3), call_size=1)
    assert (
        pipe(label=0, num_inference_steps=2, options=Options(negative="tench")).recipes[0]["guidance"]
        == "cfg"
    )


@pytest.mark.slow
def test_a_noisy_clip_may_see_the_predicted_picture(pipe: Pipeline, guides: Options) -> None:
    """By name as by object, the same alone and in a run, another picture than by what it sees of x_t."""
    assert guides.clip is not None
    options = dataclasses.replace(guides, clip_sees="x0")
    pictures = [ImageRequest(i, RED) for i in range(3)]
    alone = Pipeline(pipe.model, call_size=1)
    x0_of = through_network(alone.context.predict, alone.conditioner.of([pictures[0]]))
    by_object = clean_clip_guidance(load_clip(guides.clip), RED, 20.0, x0_of, call_size=1)
    settings = SamplingConfig("ddim", "4", 0.0, "clip:20@0-100", options=options)
    (step,) = [*alone.draw(pictures[:1], SamplingConfig("ddim", "4", 0.0, "none"), [by_object])][-1:]
    close(step.x, last(alone, settings, pictures[:1], 1))
    whole = last(pipe, settings, pictures, 3)
    assert torch.equal(whole, last(pipe, settings, pictures, 1))
    of_x_t = last(pipe, dataclasses.replace(settings, options=guides), pictures, 3)
    assert not torch.allclose(whole, of_x_t, atol=1e-3)


def unconditional() -> Pipeline:
    process = ProcessConfig(steps=100)
    return Pipeline(randomised(Model(ModelConfig(tiny_unet(6), process=process)), 3), call_size=2)


def test_an_unconditional_model_is_led_by_others(guides: Options) -> None:
    """To a class by a classifier, to a caption by a CLIP, and by its own perturbed attention."""
    pipe = unconditional()
    result = pipe(
        label=["star", 0],
        num_inference_steps=3,
        seed=0,
        guidances=["classifier:9"],
        options=Options(classifier=guides.classifier),
    )
    assert [(r["label"], r["class"]) for r in result.recipes] == [(2, "star"), (0, "circle")]
    clip = Options(clip=guides.clip)
    captions = pipe([RED, SQUARE], num_inference_steps=3, seed=0, guidances=["clip"], options=clip)
    assert [r["prompt"] for r in captions.recipes] == [RED, SQUARE]
    pag = pipe(num_inference_steps=3, seed=0, guidances=["pag"])
    pictures = [
        result.tensors[0],
        captions.tensors[0],
        pag.tensors[0],
        pipe(num_inference_steps=3, seed=0).tensors[0],
    ]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(pictures) for b in pictures[:i])
    with pytest.raises(InputError, match="without text"):
        pipe(RED, guidances=["pag"])
    with pytest.raises(InputError, match="no condition at all"):
        pipe(guidances=["cfg:3"], options=Options(negative="a dog"))
    with pytest.raises(InputError, match="without a condition"):
        pipe(guidances=["cads"], num_inference_steps=2)


def test_a_text_model_is_led_by_a_classifier_alone(pipe: Pipeline, guides: Options) -> None:
    options = Options(classifier=guides.classifier)
    result = pipe(label="square", num_inference_steps=2, guidances=["classifier"], options=options)
    assert result.recipes[0]["prompt"] == "" and result.recipes[0]["class"] == "square"


@pytest.mark.parametrize(
    ("guidances", "changes", "said"),
    [
        (["auto"], {}, "'auto' without the network that guides, expected its name: give --weak NAME"),
        (["clip"], {}, "got a CLIP of 64x64 pixels for a model of 8x8"),
        (
            ["cfg"],
            {"weak": "x"},
            "got --weak, which belongs to a guidance that was not asked for, expected --guidance auto",
        ),
        (["pag"], {"negative": "x"}, "expected --guidance apg or --guidance cfg"),
        (["auto"], {"weak": "nowhere/at/all"}, "nowhere/at/all"),
        (["pag"], {"pag_layers": "top"}, "'top', expected some of"),
        (["clip"], {"clip": "x", "clip_sees": "x"}, "--clip-sees 'x', expected xt or x0"),
        (["cfg"], {"rescale": 1.5}, "--rescale 1.5, expected a finite number from 0 to 1"),
        (["cfg"], {"threshold": 0.0}, "--threshold 0.0, expected a finite number above 0"),
        (["apg"], {"apg_momentum": -1.0}, "--apg-momentum -1.0"),
        (["apg"], {"apg_norm": float("nan")}, "--apg-norm nan"),
        (["magic"], {}, "'magic', expected apg or auto or cads or cfg"),
        (["cfg:three"], {}, "with the scale 'three', expected a number"),
        (["cfg:-1"], {}, "scale -1.0, expected a finite number from 0"),
        (["cfg:3@800-200"], {}, "swap them"),
        (["cfg:3@800"], {}, "expected NAME:SCALE~SHAPE@FROM-TO"),
        (["cfg 3"], {}, "expected NAME:SCALE~SHAPE@FROM-TO"),
        (["classifier"], {"classifier": "."}, "got no class"),
    ],
)
def test_refused(
    pipe: Pipeline, guides: Options, guidances: list[str], changes: dict[str, Any], said: str
) -> None:
    if changes.get("classifier"):
        changes = {"classifier": guides.classifier}
    with pytest.raises(InputError, match=said):
        pipe(RED, num_inference_steps=2, guidances=guidances, options=Options(**changes))


def test_a_weaker_model_of_other_pictures_or_noise(
    pipe: Pipeline, tmp_path: Path, class_folder: Path
) -> None:
    config = dataclasses.replace(pipe.model.config, process=ProcessConfig("linear", 100))
    save_model(tmp_path / "noise", Model(config, pipe.model.tokenizer))
    with pytest.raises(InputError, match="weaker model trained at the noise of linear"):
        pipe(RED, guidances=["auto"], options=Options(weak=str(tmp_path / "noise")))
    with pytest.raises(InputError, match="of 5 classes for a model of 0"):
        pipe(RED, guidances=["auto"], options=Options(weak=str(class_folder)))


def test_the_guides_are_loaded_once(pipe: Pipeline, guides: Options, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SamplingConfig("ddim", "2", 0.0, ("auto", "clip"), options=guides)
    last(pipe, settings, [ImageRequest(0, RED)], 1)
    monkeypatch.setattr("guidance.guide_networks.load_with_vocabulary", None)
    monkeypatch.setattr("guidance.clip.pretrained.load_any_clip", None)
    last(pipe, settings, [ImageRequest(i, RED) for i in range(4)], 1)
    assert set(pipe.recipe(ImageRequest(0, RED), settings, 0)["guides"]) == {"weak", "clip"}


def test_captions_of_a_published_model_need_a_vocabulary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(hub_id: str, files: list[str]) -> Path:
        raise InputError("no connection")

    found: list[Any] = []
    monkeypatch.setattr(load, "load_model", lambda *args, **named: found.append(named["vocab"]))
    monkeypatch.setattr(load, "hub_folder", offline)
    cpu = torch.device("cpu")
    load.load_with_vocabulary("base.pt", cpu)
    with pytest.raises(
        InputError, match=r"base.pt reads captions by the vocabulary openai-community/gpt2, which"
    ):
        found[-1]()
    monkeypatch.setattr(load, "hub_folder", lambda hub_id, files: tmp_path / hub_id)
    assert found[-1]() == str(tmp_path / "openai-community/gpt2")
    load.load_with_vocabulary("base.pt", cpu, "mine")
    load.load_with_vocabulary("shapes", cpu)
    assert found[1:] == ["mine", None]
    with pytest.raises(InputError, match="a vocabulary for shapes, which is no published"):
        load.load_with_vocabulary("shapes", cpu, "mine")


def test_without_a_vocabulary_the_model_says_what_to_give(text_model: Model) -> None:
    mute = Model(text_model.config)
    with pytest.raises(InputError, match="--vocab"):
        mute.caption_batch([RED])
