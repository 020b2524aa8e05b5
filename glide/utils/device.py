"""Find the device of a run by its name."""

from __future__ import annotations

import torch

from glide.utils.errors import InputError
from glide.utils.numbers import shown_number


def find_device(device: str | torch.device | None) -> torch.device:
    """The device of that name; for None, "" or "auto" a GPU if there is one, else the CPU. InputError for others.

    A tensor is moved there and back, as PyTorch also knows names of devices that it cannot use.
    """
    if device in (None, "", "auto"):
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(1, device=found).cpu()
    except Exception as error:  # each backend raises its own
        no_gpu = str(device).startswith("cuda") and not torch.cuda.is_available()
        reason = ", as there is no GPU here that PyTorch can use" if no_gpu else ""
        raise InputError(
            f"got the device {shown_number(str(device))}, which cannot be used here{reason}, expected cpu, cuda, "
            "cuda:1 or the like: try cpu"
        ) from error
    return found
