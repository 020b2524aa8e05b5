"""Validation: the loss on held-out pictures, by quarter of the timesteps, with fixed pictures and noise.

Shape letters: N pictures.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from glide.data.datasets import Dataset, on_device
from glide.training.row_rng import RowRng, derive_seed
from glide.training.step import Task
from glide.utils.mixed_precision import autocast
from glide.utils.progress import progress

M = TypeVar("M", bound=nn.Module)
HELD_OUT = 0x7A11D  # separates these random numbers from training's


class Validation(Generic[M]):
    """Measures the task's loss on the first batches of a held-out data set."""

    def __init__(
        self, task: Task[M], data: Dataset, batches: int, batch_size: int, steps: int, seed: int, dtype: str
    ) -> None:
        """batches: their number. steps: timesteps of the process, over which the pictures' are spread evenly."""
        self.task, self.seed, self.dtype, self.steps = task, seed, dtype, steps
        self.parts = [data.batch(step, batch_size) for step in range(batches)]
        count = batches * batch_size
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed(seed, HELD_OUT)))
        self.t = ((order + 0.5) * steps / count).long()  # [N], the midpoints of equal parts

    @torch.no_grad()
    def __call__(self, model: M) -> dict[str, Any]:
        """{"validation_loss": its mean, "validation_quarters": its means by quarter of the timesteps}."""
        device = next(model.parameters()).device
        found: list[Tensor] = []
        row = 0
        for part in progress(self.parts, desc="validation", unit="batch", leave=False):
            n = len(part["image"])
            inputs = on_device(part, device)
            draws = RowRng(derive_seed(self.seed, HELD_OUT), range(row, row + n))
            with autocast(device, self.dtype):
                terms = self.task(model, inputs, self.t[row : row + n].to(device), draws)
            found.append(terms["loss"].float().cpu())
            row += n
        loss, quarter = torch.cat(found), 4 * self.t // self.steps
        means = [loss[quarter == q].mean().item() if (quarter == q).any() else None for q in range(4)]
        return {"validation_loss": loss.mean().item(), "validation_quarters": means}
