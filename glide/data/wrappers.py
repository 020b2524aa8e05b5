"""Data sets made of others: the same pictures, with something added to each batch."""

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
    """All that a data set is asked besides batches is asked of the one within; what extends it has `batch`."""

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
    """A captioned data set whose batches also hold "tokens" [N,L] int64 and "mask" [N,L] bool, true where one is real.

    Of the captions that are longer than the context the first one is told by a warning, others are cut in silence.
    """

    def __init__(self, data: Dataset, tokenizer: Tokenizer) -> None:
        super().__init__(data)
        self.tokenizer = tokenizer
        self._warn = True

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.data.batch(step, size, rows)
        tokens, mask = self.tokenizer.encode(batch["caption"], warn=False)
        if self._warn:
            self._tell_of_cuts(
                [batch["caption"][row] for row in mask.all(dim=1).nonzero().flatten().tolist()]
            )
        return {**batch, "tokens": tokens, "mask": mask}

    def _tell_of_cuts(self, full: Sequence[str]) -> None:
        long = next((caption for caption in full if not self.tokenizer.fits(caption)), None)
        if long is not None and self._warn:
            self._warn = False  # of real captions it may be every other one
            self.tokenizer.encode([long])


def caption_inputs(model: Model, batch: Mapping[str, Any], dropped: Tensor) -> dict[str, Tensor]:
    """What a text model is told of captions: tokens and mask [N,L], those of the null caption where `dropped` [N]."""
    if "tokens" not in batch:
        pairs = zip(batch["caption"], dropped.tolist(), strict=True)
        return model.caption_batch(["" if drop else caption for caption, drop in pairs])
    null = model.caption_batch([""])
    drop = dropped.to(model.device)[:, None]
    return {name: torch.where(drop, null[name], batch[name].to(model.device)) for name in ("tokens", "mask")}
