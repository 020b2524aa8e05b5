"""torch.compile for networks, on request only: it takes a minute or so before the first picture or step.

A compiled network computes the same sums in another order, so its pictures are the same except for rounding. Recipes of
pictures and settings of training runs record that the network was compiled.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from glide.diffusion.conditioning import Conditioning
from glide.networks.diffusers_model import DiffusersUNet
from glide.networks.layers import Dropout
from glide.networks.unet import UNet
from glide.utils.errors import InputError

COMPILERS = ("g++", "c++", "clang++", "cl")


def compiled(unet: UNet) -> Callable[..., Tensor]:
    """The U-Net, compiled for each input shape; on a GPU also recorded and replayed (CUDA graphs).

    InputError if a CPU has no C++ compiler, this Python no torch.compile, or the network is one of diffusers.
    """
    if isinstance(unet, DiffusersUNet):
        raise InputError(
            "got --compile for a network of diffusers, expected one of this project: leave it out"
        )
    graphs = next(unet.parameters()).is_cuda
    check_compiler(unet)
    try:
        run = torch.compile(unet, dynamic=False, mode="reduce-overhead" if graphs else None)
    except RuntimeError as error:
        raise _refused(error) from error

    def network(
        x: Tensor, t: Tensor, cond: Conditioning, identity: Collection[str] = (), inner: bool = False
    ) -> Tensor:
        if not graphs:
            return run(x, t, cond, identity=identity, inner=inner)
        torch.compiler.cudagraph_mark_step_begin()
        return run(
            x, t, cond, identity=identity, inner=inner
        ).clone()  # the next replay overwrites this output

    return network


def compile_for_training(model: nn.Module) -> None:
    """Compile the networks of a model, in place, for the shapes of a training batch. InputError as `compiled`.

    These are its networks with gradient checkpointing (U-Net, transformers), or the model itself if their own forward
    is not called.
    """
    check_compiler(model)
    parts = [part for part in model.modules() if hasattr(part, "gradient_checkpointing")]
    called = [part for part in parts if type(part).forward is not nn.Module.forward]
    try:
        for layer in model.modules():
            if isinstance(layer, Dropout) and layer.p:  # its seed differs in every step
                layer.forward = torch.compiler.disable(layer.forward)  # type: ignore[method-assign]
        for part in called or [model]:
            part.compile(dynamic=False)
    except RuntimeError as error:
        raise _refused(error) from error


def as_written() -> AbstractContextManager[object]:
    """A context in which compiled networks run uncompiled: for other shapes than those they were compiled for."""
    used = "torch._dynamo" in sys.modules  # otherwise nothing is compiled, and the import takes a second
    return torch.compiler.set_stance("force_eager") if used else nullcontext()


def check_compiler(model: nn.Module) -> None:
    """Raise InputError if the model is on a CPU and there is no C++ compiler."""
    known = (os.environ.get("CXX", COMPILERS[0]), *COMPILERS)
    if not next(model.parameters()).is_cuda and not any(map(shutil.which, known)):
        raise InputError(
            f"got --compile without a C++ compiler, expected one of {', '.join(COMPILERS)}: install it, or leave it out"
        )


def _refused(error: RuntimeError) -> InputError:
    return InputError(f"got --compile, which PyTorch refuses here ({error}): leave it out")
