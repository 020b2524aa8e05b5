"""Data sets with random masks, for inpainting."""

from __future__ import annotations

import numpy as np
import torch

from glide.data.datasets import Batch, Dataset, GeneratedData
from glide.data.inpainting_distractors import add_distractor, mask_around_first
from glide.data.mask_defaults import EVERYTHING
from glide.data.masks import random_masks
from glide.data.wrappers import Wrapped
from glide.shapes.dataset import render
from glide.utils.errors import InputError

DISTRACTORS_SALT = 0x0BE5  # separates these random numbers from all others of the same (seed, step)


class Masked(Wrapped[Dataset]):
    """A data set whose batches also hold "inpaint_mask" [N,1,H,W], 1 where a pixel is known.

    A batch is a pure function of (seed, step), as without masks; `glide.data.masks` makes the masks.
    """

    def __init__(self, data: Dataset, seed: int, everything: float = EVERYTHING, beside: float = 0.0) -> None:
        """everything: share of examples without known pixels.

        beside: share of the built-in scenes of one thing that receive a distractor, which is known and which the
        caption does not mention (`glide.data.inpainting_distractors`). InputError for shares out of range, and for
        distractors in other data.
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
            self._add_distractors(batch, masks, step, size, wanted)
        return {**batch, "inpaint_mask": masks}

    def _add_distractors(self, batch: Batch, masks: torch.Tensor, step: int, size: int, rows: range) -> None:
        """Change pictures and masks [N,1,H,W] of a share of the scenes of one thing, in place."""
        assert isinstance(self.data, GeneratedData)
        side = masks.shape[-1]
        scenes = self.data.shapes.scenes(step, size)
        for place, row in enumerate(rows):
            scene = scenes[row]
            rng = np.random.default_rng(
                np.random.SeedSequence(self.seed, spawn_key=(DISTRACTORS_SALT, step, row))
            )
            if len(scene.things) != 1 or rng.random() >= self.beside:
                continue
            both = add_distractor(rng, scene)
            if both is not None:
                batch["image"][place] = torch.from_numpy(render([both], side)[0]).permute(2, 0, 1)
                masks[place, 0] = torch.from_numpy(~mask_around_first(rng, both, side))
