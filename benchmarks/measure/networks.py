"""The networks that are measured: the published sizes with random weights, as model folders."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from benchmarks.measure.plan import Plan
from glide.checkpoints.load import save_model
from glide.networks.config import ModelConfig, TextConfig
from glide.networks.model import Model
from glide.networks.presets import PRESETS
from glide.networks.tokenizer import Tokenizer
from upsampler.presets import UPSAMPLERS

CAPTION = "a red circle"

_text = TextConfig(vocab=300, context=12, width=32, layers=1, heads=2)


def _tiny(config: ModelConfig, size: int, mult: tuple[float, ...], attention: tuple[int, ...]) -> ModelConfig:
    """The same network of a few channels and blocks."""
    unet = replace(
        config.unet,
        image_size=size,
        channels=32,
        channel_mult=mult,
        num_res_blocks=1,
        attention=attention,
        head_channels=32,
    )
    return replace(config, unet=unet, text=_text)


CONFIGS: dict[str, dict[str, ModelConfig]] = {
    "full": {"base": PRESETS["glide-base"], "upsampler": UPSAMPLERS["glide-upsampler"]},
    "tiny": {
        "base": _tiny(PRESETS["glide-base"], 16, (1, 2), (2,)),
        "upsampler": _tiny(UPSAMPLERS["glide-upsampler"], 64, (1, 1, 2, 2), (8,)),
    },
}
"""By --size and by what they do; the picture of the base model is what the upsampler enlarges."""


def write_network(plan: Plan, name: str, folder: Path) -> None:
    """A model folder of a network with random weights, "base" or "upsampler". InputError where there is no room."""
    save_model(folder, random_model(CONFIGS[plan.size][name], plan.seed), dtype=getattr(torch, plan.stored))


def random_model(config: ModelConfig, seed: int) -> Model:
    """A model whose weights depend on the seed alone, with a tokenizer that reads any caption."""
    with torch.device(
        "meta"
    ):  # PyTorch's own initialisation of all layers would take longer than what is measured
        model = Model(config)
    model.to_empty(device="cpu")
    if config.text is not None:
        model.tokenizer = Tokenizer.train([CAPTION], min(300, config.text.vocab), config.text.context)
    return fill_(model, seed).eval()


def fill_(module: nn.Module, seed: int) -> nn.Module:
    """Random weights in place, of a size at which activations keep theirs; none is zero, none a denormal number."""
    for place, (name, weight) in enumerate(module.named_parameters()):
        generator = torch.Generator(weight.device).manual_seed(seed + place)
        with torch.no_grad():
            if weight.ndim < 2:
                weight.fill_(float(name.endswith("weight")))
            else:
                bound = math.sqrt(3 / weight[0].numel())  # a variance of 1 / (inputs of a layer)
                weight.uniform_(-bound, bound, generator=generator)
    return module
