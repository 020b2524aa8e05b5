"""torch.compile around a U-Net: an opt-in, as it takes a minute or so before the first picture.

The compiled network computes the same sums in another order, so its pictures are the same but for rounding; that it was
compiled is part of their recipes.
"""

from __future__ import annotations

import os
import shutil

import torch
from torch import Tensor

from glide.conditioning import Cond
from glide.denoise import Network
from glide.errors import InputError
from glide.unet import UNet

COMPILERS = ("g++", "c++", "clang++", "cl")


def compiled(unet: UNet) -> Network:
    """The U-Net, compiled for each shape that it is called with; on a GPU also recorded and replayed (CUDA graphs).

    InputError where there is no C++ compiler for a CPU, or no torch.compile for this Python.
    """
    graphs = next(unet.parameters()).is_cuda
    if not graphs and not any(map(shutil.which, (os.environ.get("CXX", COMPILERS[0]), *COMPILERS))):
        raise InputError(
            f"got --compile without a C++ compiler, expected one of {', '.join(COMPILERS)}: install it, or leave it out"
        )
    try:
        run = torch.compile(unet, dynamic=False, mode="reduce-overhead" if graphs else None)
    except RuntimeError as error:
        raise InputError(f"got --compile, which PyTorch refuses here ({error}): leave it out") from error

    def network(x: Tensor, t: Tensor, cond: Cond) -> Tensor:
        if not graphs:
            return run(x, t, cond)
        torch.compiler.cudagraph_mark_step_begin()
        return run(x, t, cond).clone()  # the next replay writes over what this one gave

    return network
