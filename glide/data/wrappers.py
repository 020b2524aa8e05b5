"""Wrappers of data sets: the same pictures, with something added to each batch.

`Encoded` turns captions into token ids where batches are made, by the prefetching threads, not between training steps.
The ids are not kept on disk: encoding a caption takes a twentieth of the time to decode its picture (docs/data.md has
the figures), and ids in a file would depend on one tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from glide.data.datasets import Batch, Dataset
from glide.networks.model import Model
from glide.networks.tokenizer import Tokenizer

D = TypeVar("D", bound=Dataset)


class Wrapped(Generic[D]):
    """Base of wrappers: passes everything but `batch` on to the wrapped data set; subclasses define `batch`."""

    def __init__(self, data: D) -> None:
        self.data = data

    @property
    def class_names(self) -> Sequence[str]:
        return self.data.class_names

    @property
    def broken(self) -> Mapping[str, str]:
        return self.data.broken

    def check_batch(self, size: int) -> None:
        self.data.check_batch(size)

    def captions_for_tokenizer(self) -> list[str]:
        return self.data.captions_for_tokenizer()


class Encoded(Wrapped[Dataset]):
    """A captioned data set whose batches also hold "tokens" [N,L] int64 and "mask" [N,L] bool, true for real tokens.

    The first caption that is longer than the context raises a warning; others are truncated silently.
    """

    def __init__(self, data: Dataset, tokenizer: Tokenizer) -> None:
        super().__init__(data)
        self.tokenizer = tokenizer
        self._warn = True

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.data.batch(step, size, rows)
        tokens, mask = self.tokenizer.encode(batch["caption"], warn=False)
        if self._warn:
            self._warn_of_truncation(
                [batch["caption"][row] for row in mask.all(dim=1).nonzero().flatten().tolist()]
            )
        return {**batch, "tokens": tokens, "mask": mask}

    def _warn_of_truncation(self, full: Sequence[str]) -> None:
        long = next((caption for caption in full if not self.tokenizer.fits(caption)), None)
        if long is not None and self._warn:
            self._warn = False  # with real captions it can be every second one
            self.tokenizer.encode([long])


def caption_inputs(model: Model, batch: Mapping[str, Any], dropped: Tensor) -> dict[str, Tensor]:
    """A text model's inputs from captions: tokens and mask [N,L], those of the null caption where `dropped` [N]."""
    if "tokens" not in batch:
        pairs = zip(batch["caption"], dropped.tolist(), strict=True)
        return model.caption_batch(["" if drop else caption for caption, drop in pairs])
    null = model.caption_batch([""])
    drop = dropped.to(model.device)[:, None]
    return {name: torch.where(drop, null[name], batch[name].to(model.device)) for name in ("tokens", "mask")}
