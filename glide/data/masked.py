"""Data sets with masks to learn inpainting with."""

from __future__ import annotations

import numpy as np
import torch

from glide.data.datasets import Batch, Dataset, GeneratedData
from glide.data.inpainting_distractors import unknown_around_first, with_other
from glide.data.mask_defaults import EVERYTHING
from glide.data.masks import random_masks
from glide.data.wrappers import Wrapped
from glide.shapes.dataset import render
from glide.utils.errors import InputError

BESIDE = 0x0BE5  # sets these random numbers apart from all others of the same (seed, step)


class Masked(Wrapped[Dataset]):
    """A data set whose batches also hold "inpaint_mask" [N,1,H,W], 1 where a pixel is known.

    A batch is a pure function of (seed, step), as it was without masks; `glide.data.masks` says what is masked.
    """

    def __init__(self, data: Dataset, seed: int, everything: float = EVERYTHING, beside: float = 0.0) -> None:
        """everything: share of examples of which nothing is known.

        beside: of the built-in scenes, share of those of one thing that get another thing beside it, which is known
        and of which the caption does not speak (`glide.data.inpainting_distractors`). InputError for shares out of
        range, or other data.
        """
        random_masks(seed, 0, range(0), (1, 1), everything)
        if not 0.0 <= beside <= 1.0:
            raise InputError(f"got the share {beside} of scenes with a thing beside, expected 0 to 1")
        if beside and not isinstance(data, GeneratedData):
            raise InputError(
                "got scenes with a thing beside for other data than whole built-in scenes, expected these: leave it out"
            )
        super().__init__(data)
        self.seed, self.everything, self.beside = seed, everything, beside

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        wanted = range(size) if rows is None else rows
        batch = self.data.batch(step, size, rows)
        height, width = batch["image"].shape[-2:]
        masks = random_masks(self.seed, step, wanted, (height, width), self.everything)
        if self.beside:
            self._put_beside(batch, masks, step, size, wanted)
        return {**batch, "inpaint_mask": masks}

    def _put_beside(self, batch: Batch, masks: torch.Tensor, step: int, size: int, rows: range) -> None:
        """Change pictures and masks [N,1,H,W] of a share of the scenes of one thing, in place."""
        assert isinstance(self.data, GeneratedData)
        side = masks.shape[-1]
        scenes = self.data.shapes.scenes(step, size)
        for place, row in enumerate(rows):
            scene = scenes[row]
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(BESIDE, step, row)))
            if len(scene.things) != 1 or rng.random() >= self.beside:
                continue
            both = with_other(rng, scene)
            if both is not None:
                batch["image"][place] = torch.from_numpy(render([both], side)[0]).permute(2, 0, 1)
                masks[place, 0] = torch.from_numpy(~unknown_around_first(rng, both, side))
