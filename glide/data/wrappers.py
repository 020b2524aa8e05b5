"""Wrappers of data sets: the same pictures, with something added to each batch.

`Encoded` turns captions into token ids where batches are made, by the prefetching threads, not between training steps;
`WithEncodings` reads the outputs of a frozen text encoder there. The ids are not kept on disk: to make them takes a
twentieth of the time to decode a picture (docs/data.md has the figures), and they would depend on one tokenizer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from glide.data.datasets import Batch, Dataset
from glide.data.encodings import Encodings, TruncationNotice
from glide.networks.model import Model
from glide.networks.prior import Prior
from glide.networks.tokenizer import Tokenizer

D = TypeVar("D", bound=Dataset)
TRAINING_STEP = "training_step"
"""Key of a batch: the number of the step that it is for, [N]."""


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


class Numbered(Wrapped[Dataset]):
    """A data set whose batches also hold the number of their step, for objectives that change on the way."""

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.data.batch(step, size, rows)
        return {**batch, TRAINING_STEP: torch.full((size if rows is None else len(rows),), step)}


class Encoded(Wrapped[Dataset]):
    """A captioned data set whose batches also hold "tokens" [N,L] int64 and "mask" [N,L] bool, true for real tokens.

    The first caption that is longer than the context raises a warning; others are truncated silently.
    """

    def __init__(self, data: Dataset, tokenizer: Tokenizer) -> None:
        super().__init__(data)
        self.tokenizer = tokenizer
        self._notice = TruncationNotice()

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.data.batch(step, size, rows)
        tokens, mask = self.tokenizer.encode(batch["caption"], warn=False)
        self._notice.look(self.tokenizer, batch["caption"], mask)
        return {**batch, "tokens": tokens, "mask": mask}


class WithEncodings(Wrapped[Dataset]):
    """A captioned data set whose batches also hold the captions' encodings (`Encodings.read`), where all are on disk.

    Where one is missing, `caption_inputs` makes it: the encoder runs between training steps alone, on the device.
    """

    def __init__(self, data: Dataset, encodings: Encodings, tokenizer: Tokenizer) -> None:
        super().__init__(data)
        self.encodings, self.tokenizer = encodings, tokenizer

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        batch = self.data.batch(step, size, rows)
        found = self.encodings.read(batch["caption"])
        if found is None:
            return batch
        self.encodings.notice.look(self.tokenizer, batch["caption"], found["mask"])
        return {**batch, **found}


def caption_inputs(
    model: Model, batch: Mapping[str, Any], dropped: Tensor, encodings: Encodings | None = None
) -> dict[str, Tensor]:
    """A text model's inputs from captions, those of the null caption where `dropped` [N]: tokens and mask [N,L].

    With encodings of a frozen text encoder: encoded [N,L,D] and mask, as `FrozenText.encode`.
    """
    if encodings is not None:
        names: tuple[str, ...] = ("encoded", "mask", *(["end"] if encodings.end else []))
        found = batch if "encoded" in batch else encodings.encode(model, batch["caption"])
        return _dropped(names, found, encodings.null(model), dropped, model.device)
    return token_inputs(model, batch, dropped)


def token_inputs(model: Model | Prior, batch: Mapping[str, Any], dropped: Tensor) -> dict[str, Tensor]:
    """tokens and mask [N,L] of captions, those of the null caption where `dropped` [N]; tokens may be in the batch."""
    if "tokens" not in batch:
        pairs = zip(batch["caption"], dropped.tolist(), strict=True)
        return model.caption_batch(["" if drop else caption for caption, drop in pairs])
    return _dropped(("tokens", "mask"), batch, model.caption_batch([""]), dropped, model.device)


def _dropped(
    names: Sequence[str],
    found: Mapping[str, Tensor],
    null: Mapping[str, Tensor],
    dropped: Tensor,
    device: torch.device,
) -> dict[str, Tensor]:
    drop = dropped.to(device)
    return {name: _where(drop, null[name], found[name].to(device)) for name in names}


def _where(drop: Tensor, null: Tensor, part: Tensor) -> Tensor:
    """null [1,...] where `drop` [N], else part [N,...]."""
    return torch.where(drop.view(-1, *[1] * (part.ndim - 1)), null, part)
