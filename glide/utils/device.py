"""The device that a run is computed on, by the name that a flag or a caller gives it."""

from __future__ import annotations

import torch

from glide.utils.errors import InputError
from glide.utils.numbers import shown_number


def find_device(device: str | torch.device | None) -> torch.device:
    """None, "" or "auto": a GPU where there is one, else the CPU. InputError for one that cannot be used here.

    A tensor is put there and brought back, as there are devices that PyTorch knows by name alone.
    """
    if device in (None, "", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except Exception as error:  # each backend has its own
        no_gpu = str(device).startswith("cuda") and not torch.cuda.is_available()
        reason = ", as there is no GPU here that PyTorch can use" if no_gpu else ""
        raise InputError(
            f"got the device {shown_number(str(device))}, which cannot be used here{reason}, expected cpu, cuda, "
            "cuda:1 or the like: try cpu"
        ) from error
    return found
