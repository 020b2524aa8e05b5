"""Mixed precision in training: autocast, and the loss scaling that float16 needs."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[None]:
    """The network computes in `dtype` where that is safe; weights stay float32."""
    return torch.autocast(device.type, getattr(torch, dtype), enabled=dtype != "float32")


class LossScale:
    """Dynamic loss scaling (1710.03740, section 3.2): gradients of float16 are kept above its smallest numbers.

    The loss is multiplied by `factor`, the gradient divided by it. A gradient that overflowed halves it, and its step
    is skipped; `patience` good steps double it. Of other formats the factor stays 1.
    """

    LARGEST = 2.0**24

    def __init__(self, dtype: str, patience: int = 1000) -> None:
        self.active, self.patience = dtype == "float16", patience
        self.factor = 2.0**16 if self.active else 1.0
        self.good = 0  # steps since the factor last changed

    @property
    def searching(self) -> bool:
        """Whether a gradient that is not finite may come of the factor alone."""
        return self.active and self.factor > 1.0

    def update(self, finite: bool) -> None:
        if not self.active:
            return
        if not finite:
            self.factor, self.good = max(1.0, self.factor / 2), 0
        elif self.good + 1 >= self.patience:
            self.factor, self.good = min(self.LARGEST, self.factor * 2), 0
        else:
            self.good += 1

    def state_dict(self) -> dict[str, float]:
        return {"factor": self.factor, "good": self.good} if self.active else {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        if self.active and state:  # a run that goes on in float16 from another format begins to search
            self.factor, self.good = float(state["factor"]), int(state["good"])


def computing_in(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to `dtype`; nothing at all for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)
