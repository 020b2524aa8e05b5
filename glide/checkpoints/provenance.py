"""Provenance of a picture: a fingerprint of the weights and the environment, as stored in its PNG."""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from glide.networks.cpu.fused import VERSION, library
from glide.utils.errors import warn
from glide.version import __version__


def fingerprint(model: nn.Module) -> str:
    """16 hexadecimal digits of SHA-256 over the names, shapes, types and bytes of all weights.

    The same on every device and in every memory format; about half a second per GB.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def environment(device: torch.device) -> dict[str, Any]:
    """The environment of a drawing, for its recipe: a picture's last bits depend on all of it."""
    found: dict[str, Any] = {"version": __version__, "torch": torch.__version__, "device": device.type}
    if device.type == "cpu":
        found["threads"] = torch.get_num_threads()  # matrix products are divided among them
        found["cpu"] = torch.backends.cpu.get_cpu_capability()
        found["kernels"] = f"C {VERSION}" if library() else "PyTorch"
    elif device.type == "cuda":
        found["gpu"] = torch.cuda.get_device_name(device)
    return found


def restore_environment(recipe: Mapping[str, Any], device: torch.device) -> None:
    """Set the number of threads of `recipe`, and warn of other differences from its environment."""
    threads = recipe.get("threads")
    if device.type == "cpu" and type(threads) is int and 0 < threads <= (os.cpu_count() or 1):
        torch.set_num_threads(threads)
    other = differences(recipe, environment(device))
    if other:
        warn(f"drawn with {'; '.join(other)}: the picture can differ in its last bits", stacklevel=2)


def differences(recipe: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """Differences from the environment in a recipe, in words; what it does not say is none."""
    # until version 2 of the C recipes had "norms", which alone were computed in it
    then = {"kernels": f"{recipe['norms']} norms", **recipe} if "norms" in recipe else recipe
    return [
        f"{name} {str(then[name])[:40]}, not {here[name]}"
        for name in here
        if then.get(name, here[name]) != here[name]
    ]
