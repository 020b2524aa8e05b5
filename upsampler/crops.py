"""Training pictures of an upsampler: crops, each with its low-resolution planes.

A crop costs as much as a small picture, so a 256x256 model is trained at the cost of a 64x64 one. Shape letters: N
pictures, H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from glide.data.datasets import Batch, Dataset, GeneratedData
from glide.data.wrappers import Wrapped
from glide.shapes.render import render
from glide.utils.errors import InputError
from upsampler.low_res import REDUCTIONS, Pixels, degrade, enlarged_crop, reduce_picture
from upsampler.low_res_config import LowRes, Reduction

LOW_RES_SALT = 0x10E5  # separates these random numbers from those of the data of the same (seed, step)


@dataclass(frozen=True, eq=False)
class Whole:
    """Whole pictures, with their low-resolution ones before any degradation."""

    pixels: Tensor  # uint8 [N,H,W,3]
    low_res: Tensor  # uint8 [N,h,w,3]
    captions: Sequence[str]
    labels: Sequence[int | None]


class LowResCrops(Wrapped[Dataset]):
    """A data set of low-resolution pictures and crops of their originals; a batch is a function of its step.

    data: pictures of one size. crop: height and width of the crops. scale: the factor of enlargement.
    InputError for settings that do not fit.
    """

    def __init__(self, data: Dataset, settings: LowRes, size: int, crop: int, scale: int, seed: int) -> None:
        settings.check()
        if crop % scale or size % scale or not scale <= crop <= size:
            raise InputError(
                f"got crops of {crop} pixels of pictures of {size}, expected a multiple of {scale} up to {size}: "
                "change --crop-size"
            )
        generated = isinstance(data, GeneratedData)
        methods = settings.reduce or (("rendered", "area") if generated else ("area",))
        if "rendered" in methods and not generated:
            raise InputError(
                "got --reduce rendered for pictures of a folder, which cannot be rendered again, expected "
                f"{', '.join(REDUCTIONS)}: choose of these"
            )
        super().__init__(data)
        self.settings, self.methods = settings, methods
        self.size, self.crop, self.scale, self.seed = size, crop, scale, seed

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        """image, uint8, and low_res, float32 in [-1, 1], [N,3,crop,crop]; low_res_level [N]; captions or y."""
        wanted = range(size) if rows is None else rows
        large, drawn, batch = self._pictures(step, size, wanted)
        room = (self.size - self.crop) // self.scale
        images, planes, levels = [], [], []
        for index, (row, pixels) in enumerate(zip(wanted, large, strict=True)):
            rng = np.random.default_rng(
                np.random.SeedSequence(self.seed, spawn_key=(LOW_RES_SALT, step, row))
            )
            low_pixels = self._small(pixels, drawn, index, self.methods[rng.integers(len(self.methods))])
            top, left = rng.integers(0, room + 1, 2).tolist()
            low_res, level = degrade(low_pixels, self.settings, rng)
            y, x = top * self.scale, left * self.scale
            images.append(pixels[y : y + self.crop, x : x + self.crop])
            planes.append(enlarged_crop(low_res, self.scale, top, left, self.crop))
            levels.append(level)
        inputs = {"low_res": torch.stack(planes), "low_res_level": torch.tensor(levels, dtype=torch.float32)}
        return {**batch, "image": torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), **inputs}

    def whole(self, step: int, size: int) -> Whole:
        """The first pictures of a step, each with its low-resolution one by the first method of reduction."""
        large, drawn, batch = self._pictures(step, size, range(size))
        small = [self._small(pixels, drawn, i, self.methods[0]) for i, pixels in enumerate(large)]
        captions = batch.get("caption", [""] * size)
        labels = batch["y"].tolist() if "y" in batch else [None] * size
        return Whole(torch.from_numpy(large), torch.from_numpy(np.stack(small)), captions, labels)

    def _pictures(self, step: int, size: int, rows: range) -> tuple[Pixels, Pixels | None, Batch]:
        """Pixels, uint8 [N,H,W,3]; small ones [N,h,w,3] of scenes rendered again; the rest of the batch."""
        if not isinstance(self.data, GeneratedData):
            batch = dict(self.data.batch(step, size, rows))
            return batch.pop("image").permute(0, 2, 3, 1).numpy(), None, batch
        # a whole batch at 256x256 in float32 would take more time and memory than drawing it
        scenes = self.data.shapes.scenes(step, size)
        scenes = [scenes[row] for row in rows]
        drawn = render(scenes, self.size // self.scale) if "rendered" in self.methods else None
        return render(scenes, self.size), drawn, {"caption": [scene.caption for scene in scenes]}

    def _small(self, pixels: Pixels, drawn: Pixels | None, index: int, method: Reduction) -> Pixels:
        """The low-resolution picture, uint8 [h,w,3], of one of the pictures."""
        if method == "rendered":
            assert drawn is not None
            return drawn[index]
        return reduce_picture(pixels, self.scale, method)
