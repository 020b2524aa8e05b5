"""Mixed precision in training: autocast, and the loss scaling that float16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[None]:
    """A context in which the network computes in `dtype` where that is safe; weights stay float32."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")


class LossScale:
    """Dynamic loss scaling (1710.03740, section 3.2), which keeps gradients of float16 above its smallest numbers.

    The loss is multiplied by `factor`, and the gradient divided by it. A gradient that overflows halves the factor and
    skips its step; `patience` good steps double it. For other types the factor stays 1.
    """

    MAX_FACTOR = 2.0**24

    def __init__(self, dtype: str, patience: int = 1000) -> None:
        self.active, self.patience = dtype == "float16", patience
        self.factor = 2.0**16 if self.active else 1.0
        self.good = 0  # steps since the factor last changed

    @property
    def searching(self) -> bool:
        """True if a gradient that is not finite can be due to the factor alone."""
        return self.active and self.factor > 1.0

    def update(self, finite: bool) -> None:
        if not self.active:
            return
        if not finite:
            self.factor, self.good = max(1.0, self.factor / 2), 0
        elif self.good + 1 >= self.patience:
            self.factor, self.good = min(self.MAX_FACTOR, self.factor * 2), 0
        else:
            self.good += 1

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "good": self.good} if self.active else {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if self.active and state:  # a run resumed in float16 from another type starts to search
            self.factor, self.good = float(state["factor"]), int(state["good"])


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `dtype`; no context for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
