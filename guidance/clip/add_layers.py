"""A CLIP made deeper without a change of what it says: its training goes on with room for more."""

from __future__ import annotations

import dataclasses
import re

import torch

from glide.utils.errors import InputError
from guidance.clip.network import NoisyClip


@torch.no_grad()
def deepened(clip: NoisyClip, more: int) -> NoisyClip:
    """The same function by `more` residual blocks, with their attention, at each level of the tower for pictures.

    The new ones come last at their level and begin as the identity (Net2DeeperNet, 1511.05641, section 2.3): the last
    layer of every residual branch is zero. InputError for a CLIP whose tower is a vision transformer.
    """
    trunk = clip.config.trunk
    if trunk is None:
        raise InputError(
            f"got --deepen {more} for a CLIP with a vision transformer, expected one with a U-Net's down path: begin "
            "with a diffusion model, or leave --deepen out"
        )
    old = trunk.num_res_blocks
    deeper = dataclasses.replace(trunk, num_res_blocks=old + more)
    grown = NoisyClip(dataclasses.replace(clip.config, trunk=deeper), clip.tokenizer)
    grown.first_stage = clip.first_stage

    def moved(match: re.Match[str]) -> str:
        level, block = divmod(int(match[1]), old + 1)  # the last one of a level halves the picture
        return f"image.encoder.down.{level * (old + more + 1) + block + more * (block == old)}."

    state = {
        re.sub(r"^image\.encoder\.down\.(\d+)\.", moved, key): value
        for key, value in clip.state_dict().items()
    }
    grown.load_state_dict(state, strict=False)
    return grown
