"""Data sets made of others: the same pictures, with something added to each batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Generic, TypeVar

from glide.data.datasets import Dataset

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
