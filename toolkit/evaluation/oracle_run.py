"""Draw the pictures that the oracle judges, as every sweep does.

Shape letters: N pictures, C channels, H W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from glide.networks.fixed_batch import batches
from glide.networks.image_request import ImageRequest
from glide.utils.progress import progress
from toolkit.evaluation.prompts import Prompt
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig


def drawn(
    pipe: Pipeline, settings: SamplingConfig, asked: Sequence[Prompt], batch_size: int, seed: int
) -> Tensor:
    """x [N,C,H,W] for the prompts, on the CPU, nominally from -1 to 1; picture i has the seed `seed + i`."""
    pictures = [ImageRequest(seed + i, one.caption, one.label) for i, one in enumerate(asked)]
    return drawn_requests(pipe, settings, pictures, batch_size)


def drawn_requests(
    pipe: Pipeline, settings: SamplingConfig, pictures: Sequence[ImageRequest], batch_size: int
) -> Tensor:
    """x [N,C,H,W] for the requests, on the CPU, nominally from -1 to 1."""
    run = pipe.for_run(len(pictures))
    assert run.call_size is not None
    parts = []
    for _, batch in progress(list(batches(pictures, batch_size, run.call_size)), leave=False, unit="batch"):
        for step in run.draw(batch, settings):  # each batch begins in the first place of a call
            last = step
        parts.append(last.x.cpu())
    return torch.cat(parts)
