"""benchmarks/measure/original.py: the original releases, where they are installed, are called as they want to be."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmarks.measure import suite
from benchmarks.measure.results import Note
from glide.checkpoints.openai.releases import GLIDE
from support.benchmark_cases import TINY, InlineWorker, inline, of


class StandIn(nn.Module):
    """In place of a network of a release: it takes what theirs takes, and is a convolution."""

    def __init__(self, planes: int, told: set[str]) -> None:
        super().__init__()
        self.conv, self.told = nn.Conv2d(3 + planes, 6, 3, padding=1), told

    def forward(self, x: torch.Tensor, timesteps: torch.Tensor, **told: torch.Tensor) -> torch.Tensor:
        assert set(told) == self.told and {len(part) for part in told.values()} == {len(x)} == {
            len(timesteps)
        }
        low_res = [F.interpolate(part, x.shape[-2:]) for name, part in told.items() if name == "low_res"]
        return self.conv(torch.cat([x, *low_res], dim=1))


class Loop:
    """In place of a release's diffusion."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def p_sample_loop_progressive(
        self,
        model: Callable[..., torch.Tensor],
        shape: tuple[int, ...],
        noise: torch.Tensor | None = None,
        clip_denoised: bool = True,
        denoised_fn: None = None,
        cond_fn: None = None,
        model_kwargs: dict[str, torch.Tensor] | None = None,
        device: torch.device | None = None,
        progress: bool = False,
    ) -> Iterator[dict[str, torch.Tensor]]:
        x = torch.randn(*shape, device=device)
        for step in reversed(range(self.steps)):
            with torch.no_grad():
                out = model(x, torch.tensor([step] * len(x)), **(model_kwargs or {}))
            assert out.shape == (shape[0], 6, *shape[2:])
            x = out[:, :3]
            yield {"sample": x}


def release(monkeypatch: pytest.MonkeyPatch, name: str, **modules: dict[str, Any]) -> None:
    """Put a package of these modules where it is imported from."""
    for path in (name, *(f"{name}.{module}" for module in modules)):
        made = ModuleType(path)
        made.__spec__ = ModuleSpec(path, None)
        for attribute, value in modules.get(path.partition(".")[2], {}).items():
            setattr(made, attribute, value)
        monkeypatch.setitem(sys.modules, path, made)
    for module in modules:
        setattr(sys.modules[name], module, sys.modules[f"{name}.{module}"])


UNKNOWN = ("learn_sigma", "n_vocab", "predict_xstart", "rescale_learned_sigmas", "rescale_timesteps")
UNKNOWN += ("use_checkpoint", "use_kl")
"""Options of ours that GLIDE's release does not have."""


def glide_options(size: int, blocks: int, schedule: str, low_res: bool) -> dict[str, Any]:
    """The options of GLIDE's release, with its defaults."""
    given = {"image_size": size, "num_res_blocks": blocks, "noise_schedule": schedule, "super_res": low_res}
    return {name: value for name, value in GLIDE.items() if name not in UNKNOWN} | given | {"use_fp16": True}


@pytest.mark.slow
def test_the_releases_are_called_as_they_want_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """By stand-ins with their signatures: that they compute the same networks is shown by the golden tests."""
    asked: list[dict[str, Any]] = []

    def create(**options: Any) -> tuple[nn.Module, Loop]:
        assert set(options) == set(glide_options(64, 3, "linear", False))
        asked.append(options)
        mult = options["channel_mult"].split(",")
        assert 2 ** (len(mult) + 2) == options["image_size"] and not options["use_fp16"]
        low_res = {"low_res"} if options["super_res"] else set()
        network = StandIn(3 * options["super_res"], {"tokens", "mask"} | low_res)
        return network, Loop(int(options["timestep_respacing"]))

    def unet(planes: int) -> Callable[..., nn.Module]:
        def make(image_size: int, in_channels: int, **options: Any) -> nn.Module:
            asked.append({"image_size": image_size, **options})
            return StandIn(planes, {"y", "low_res"} if planes else {"y"})

        return make

    release(
        monkeypatch,
        "glide_text2im",
        model_creation={
            "model_and_diffusion_defaults": lambda: glide_options(64, 3, "squaredcos_cap_v2", False),
            "model_and_diffusion_defaults_upsampler": lambda: glide_options(256, 2, "linear", True),
            "create_model_and_diffusion": create,
        },
    )
    release(
        monkeypatch,
        "guided_diffusion",
        script_util={
            "create_gaussian_diffusion": lambda *, steps, learn_sigma, noise_schedule, timestep_respacing: (
                Loop(int(timestep_respacing))
            )
        },
        unet={"UNetModel": unet(0), "SuperResModel": unet(3)},
    )
    packages = ("glide_text2im", "guided_diffusion")
    plan = replace(TINY, cases=("base", "upsampler"), batch_sizes=(2,), beside=packages, profile=False)
    found = suite.measure(plan, lambda line: None, inline, InlineWorker).found
    assert not [one for one in found if isinstance(one, Note)]
    for contender in ("glide_text2im", "guided_diffusion (a class in place of the caption)"):
        (base,), (upsampler,) = (of(found, case, contender) for case in ("base", "upsampler"))
        conv = 2 * 9 * 6  # FLOP a pixel and input channel
        assert (base.work, upsampler.work) == (conv * 3 * 4 * 16**2, conv * 6 * 2 * 64**2)
        assert (base.steps, upsampler.steps) == (100, 27)
    sizes = [(one["image_size"], one["num_res_blocks"], one["num_head_channels"]) for one in asked]
    assert sizes == [(16, 1, 32), (16, 1, 32), (64, 1, 32), (64, 1, 32)]
    assert [one.get("attention_resolutions") for one in asked] == ["8", (2,), "8", (8,)]
