"""DeepCache: between whole steps only the first level is computed, on what the deeper ones said last."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from glide.diffusion.conditioning import Conditioning
from glide.networks.deep_cache import DeepCache
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from glide.networks.unet import UNet
from glide.utils.images import read_recipe
from support.models import CAPTIONS
from support.sample_script import Capture, call, refused
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

RED, SQUARE = CAPTIONS[:2]


def inputs(model: Model, step: int) -> tuple[Tensor, Tensor, Conditioning]:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(step))
    return x, torch.full((2,), 90 - step), model.condition(model.caption_batch([RED, SQUARE]))


@torch.no_grad()
def with_deep_of(unet: UNet, now: tuple[Tensor, Tensor, Conditioning], deep: Tensor) -> Tensor:
    """The whole U-Net, but that its first level gets `deep` from below: what the paper's figure 4 shows."""
    entry = unet.up[-(unet.config.num_res_blocks + 1)]

    def substitute(block: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (torch.cat([deep, args[0][:, deep.shape[1] :]], dim=1), *args[1:])

    hook = entry.register_forward_pre_hook(substitute)
    try:
        return unet(*now)  # type: ignore[no-any-return]
    finally:
        hook.remove()


@torch.no_grad()
def deep_of(unet: UNet, now: tuple[Tensor, Tensor, Conditioning]) -> Tensor:
    """What comes up to the first level."""
    last = unet.up[-(unet.config.num_res_blocks + 1) - 1]
    found: list[Tensor] = []
    hook = last.register_forward_hook(lambda block, args, output: found.append(output))
    unet(*now)
    hook.remove()
    return found[0]


@torch.no_grad()
def test_between_whole_steps_the_first_level_gets_what_is_kept(text_model: Model) -> None:
    unet, cached = text_model.unet, DeepCache(text_model.unet, 3)
    for step in range(7):
        now = inputs(text_model, step)
        kept = deep_of(unet, inputs(text_model, step - step % 3))
        found = cached(*now)
        assert torch.equal(found, with_deep_of(unet, now, kept))
        assert torch.equal(found, unet(*now)) == (step % 3 == 0)


@torch.no_grad()
def test_another_condition_in_the_same_place_is_computed_whole(text_model: Model) -> None:
    unet, cached = text_model.unet, DeepCache(text_model.unet, 4)
    cached(*inputs(text_model, 0))
    x, t, _ = inputs(text_model, 1)
    told = text_model.condition(text_model.caption_batch([SQUARE, SQUARE]))
    assert torch.equal(cached(x, t, told), unet(x, t, told))  # other words
    x, t, cond = inputs(text_model, 2)
    assert torch.equal(cached(x[:1], t[:1], cond[:1]), unet(x[:1], t[:1], cond[:1]))  # fewer rows
    x, t, cond = inputs(text_model, 3)
    cond = replace(
        cond[:1], estimate=torch.zeros_like(x[:1])
    )  # which changes at every step, and is no other condition
    assert not torch.equal(cached(x[:1], t[:1], cond), unet(x[:1], t[:1], cond))


def settings(deep_every: int, **changes: Any) -> SamplingConfig:
    return SamplingConfig("ddim", "6", 0.0, "cfg", 2.0, deep_every=deep_every, **changes)


def last(pipe: Pipeline, pictures: list[ImageRequest], how: SamplingConfig) -> Tensor:
    *_, step = pipe.draw(pictures, how)
    return step.x


@pytest.mark.slow
def test_a_run_computes_the_deep_levels_so_often(text_model: Model) -> None:
    pipe = Pipeline(text_model, call_size=2)
    pictures = [ImageRequest(i, caption) for i, caption in enumerate([RED, SQUARE, RED])]
    count = {"deep": 0, "first": 0}

    def counter(name: str) -> Any:
        def add(*_: object) -> None:
            count[name] += 1

        return add

    hooks = [
        pipe.unet.middle_in.register_forward_hook(counter("deep")),
        pipe.unet.up[-1].register_forward_hook(counter("first")),
    ]
    whole = last(pipe, pictures, settings(1))
    assert count == {"deep": 12, "first": 12}  # 6 steps of two calls
    third = last(pipe, pictures, settings(3))
    assert count == {"deep": 12 + 4, "first": 24}
    for hook in hooks:
        hook.remove()
    assert not torch.equal(third, whole) and torch.isfinite(third).all()
    # no picture depends on those beside it, nor a run on the one before
    assert torch.equal(last(pipe, pictures[:1], settings(3)), third[:1])
    assert torch.equal(last(pipe, pictures, settings(1)), whole)


@pytest.mark.slow
def test_the_script_takes_it_and_its_recipe_says_so(
    text_folder: Path, tmp_path: Path, capsys: Capture
) -> None:
    command = ["--model", text_folder, "--prompt", RED, "--steps", "4", "--out", tmp_path / "o"]
    assert call(*command, "--deep-every", "2") == 0
    assert read_recipe(tmp_path / "o/00000.png")["deep_every"] == 2
    assert call("--trust-recipe", "--like", tmp_path / "o/00000.png", "--out", tmp_path / "o") == 0
    assert (tmp_path / "o/00001.png").read_bytes() == (tmp_path / "o/00000.png").read_bytes()
    capsys.readouterr()
    refused(
        call(*command, "--deep-every", "0"), capsys, "--deep-every 0, expected a whole number of at least 1"
    )
