"""From the sampler to the U-Net there are at most five frames of ours, each with a name that says what it is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from glide.diffusion.samplers.registry import SAMPLERS
from glide.networks.image_request import ImageRequest
from glide.networks.model import Model
from support.models import CAPTIONS
from support.paths import ROOT
from toolkit import Pipeline
from toolkit.pipelines.settings import SamplingConfig

OURS = tuple(str(ROOT / package) for package in ("glide", "guidance", "upsampler", "toolkit"))
NAMELESS = ("<lambda>", "run", "call", "inner", "wrapped", "network", "predict", "denoise", "f", "fn")


def frames_to_here() -> list[str]:
    """Names of our frames from the innermost to the sampler."""
    found, frame = [], sys._getframe(2)
    while frame is not None:
        file, name = frame.f_code.co_filename, frame.f_code.co_qualname
        if file.startswith(OURS):
            found.append(name)
            if Path(file).parent.name == "samplers" and frame.f_code.co_flags & 0x20:  # a generator
                return found
        frame = frame.f_back  # type: ignore[assignment]
    raise AssertionError("no sampler called the network")


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance", ["none", "cfg:3"])
def test_at_most_five_frames(text_model: Model, sampler: str, guidance: str) -> None:
    pipe = Pipeline(text_model)
    seen: list[list[str]] = []

    def watch(*_: Any) -> None:
        seen.append([*frames_to_here(), "UNet.forward"])

    handle = pipe.unet.register_forward_pre_hook(watch)
    try:
        config = SamplingConfig(sampler, "3", guidance=guidance)
        for _ in pipe.draw([ImageRequest(0, CAPTIONS[0])], config):
            pass
    finally:
        handle.remove()
    assert seen
    for names in seen:
        assert len(names) <= 5, names
        assert not {name.rpartition(".")[2] for name in names} & {*NAMELESS}, names
