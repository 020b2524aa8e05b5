"""Networks for tests of the published checkpoints: the golden ones, and a tiny one."""

import json
from functools import cache
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from glide.checkpoints.openai.convert import mapping
from support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden"
TINY = {
    "image_size": 16,
    "num_channels": 32,
    "channel_mult": "1,1",
    "num_res_blocks": 1,
    "attention_resolutions": "8",
    "num_head_channels": 16,
    "learn_sigma": True,
    "class_cond": True,
    "num_classes": 3,
}


@cache
def golden(name: str) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, Tensor]]:
    """Options and state dict in the original's names, and the inputs with their output."""
    options = json.loads((GOLDEN / "manifest.json").read_text())[name]["config"]
    tensors = load_file(GOLDEN / f"{name}.safetensors")
    state = {key.removeprefix("state."): value for key, value in tensors.items() if key.startswith("state.")}
    batch = {key: value for key, value in tensors.items() if not key.startswith("state.")}
    return options, state, batch


@cache
def tiny_state() -> dict[str, Tensor]:
    """A state dict, in the original's names, of the model with options TINY."""
    generator = torch.Generator().manual_seed(0)
    return {s.name: 0.1 * torch.randn(s.shape, generator=generator) for s in mapping(TINY).values()}


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
