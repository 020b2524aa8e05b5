"""The second stage of a picture, as inpainting sees it; `toolkit.pipelines.second_stage` is one.

Shape letters: N pictures, h w pixels of the first stage, H W of the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor


class EnlargeAround(Protocol):
    """From small pictures to large ones, around pixels that are known."""

    @property
    def size(self) -> int:
        """H = W of what it draws."""
        ...

    def recipe(self) -> dict[str, Any]:
        """What its pictures need to be drawn again, JSON-able."""
        ...

    def __call__(
        self,
        small: Tensor,
        *,
        image: Tensor,
        mask: Tensor,
        captions: Sequence[str],
        labels: Sequence[int | None],
        seeds: Sequence[int],
    ) -> Tensor:
        """small [N,3,h,w], in [-1, 1] as all pictures here -> [N,3,H,W], on the CPU.

        image [3,H,W] is the same of all, kept where mask [1,H,W] is 1. captions, labels, seeds: of the N pictures.
        """
        ...
