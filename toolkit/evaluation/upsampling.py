"""Measure enlargements: small pictures, enlarged, against true large ones, of the built-in scenes or of any data.

Pillow's filters stand beside the upsampler.

Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from glide.data.datasets import Dataset
from glide.data.stored_dataset import StoredData
from glide.networks.config import ModelConfig
from glide.networks.model import Model
from glide.shapes.render import render
from glide.shapes.scene import Scene
from glide.training.train_base_flags import TrainBase
from glide.utils.errors import InputError
from glide.utils.progress import progress
from toolkit.evaluation.bootstrap import RESAMPLES, Estimate, around, line_of, picked
from toolkit.evaluation.picture_sets import PictureSet
from toolkit.pipelines.upscale import enlarger
from upsampler.crops import LowResCrops

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}


@dataclass
class Errors:
    """Mean squared errors of pictures, in levels of 0 to 255."""

    squared: list[float] = field(default_factory=list)

    def add(self, pixels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        difference = pixels.astype(np.float64) - truth
        self.squared.append(float((difference**2).mean()))

    @property
    def psnr(self) -> float:
        """PSNR in dB of all pictures together, by the mean of their squared errors."""
        return decibels(float(np.mean(self.squared)))

    def estimate(self, seed: int = 0) -> Estimate:
        """`psnr` with its interval."""
        squared = np.array(self.squared)
        return around(
            self.psnr,
            np.array(
                [decibels(float(squared[rows].mean())) for rows in picked(len(squared), RESAMPLES, seed)]
            ),
        )

    @property
    def median(self) -> float:
        """The median of the pictures' own, in dB."""
        return decibels(float(np.median(self.squared)))


def decibels(squared: float) -> float:
    """PSNR of a mean squared error in levels of 0 to 255. Equal pictures count as 120 dB, which no rounding gives."""
    return 10 * math.log10(255**2 / squared) if squared else 120.0


Enlarge = Callable[[Tensor, str, int], Tensor]
"""From uint8 [h,w,3], a caption and a seed to uint8 [H,W,3]."""


def filtered(pixels: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    """uint8 [h,w,3] -> uint8 [size,size,3] by a filter of FILTERS."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), FILTERS[name]))


@dataclass(frozen=True)
class Comparison:
    """The enlargements of several pictures against the truth."""

    errors: dict[str, Errors]
    """By method: those of FILTERS, "upsampler", and the name of a reference."""
    rows: list[list[NDArray[np.uint8]]]
    """For each picture, uint8 [H,W,3]: small (in squares), bicubic, enlarged and true."""
    seconds: float
    """Of the upsampler, for all pictures."""


def upsampling_evaluation(
    args: TrainBase, model: Model, data: Dataset
) -> Callable[[Model], dict[str, float]]:
    """Measures an upsampler in training: PSNR of large pictures, "psnr", beside that of a bicubic filter.

    data: `LowResCrops`. InputError for a --judge, which has nothing to compare.
    """
    if args.judge is not None:
        raise InputError(
            f"got --judge {args.judge} for an upsampler, which is measured by its PSNR, expected none: "
            "leave it out"
        )
    assert isinstance(data, LowResCrops)
    count = min(args.evaluate_pictures, len(data.data)) if isinstance(data.data, StoredData) else None
    whole = data.whole(0, count or args.evaluate_pictures)
    size, seed = whole.pixels.shape[1], args.train.seed
    bicubic = Errors()
    for truth, low_res in zip(whole.pixels, whole.low_res, strict=True):
        bicubic.add(filtered(low_res.numpy(), size, "bicubic"), truth.numpy())

    def evaluate(model: Model) -> dict[str, float]:
        enlarge, errors = enlarger(model), Errors()
        rows = zip(whole.pixels, whole.low_res, whole.captions, whole.labels, strict=True)
        for i, (truth, low_res, caption, label) in enumerate(
            progress(rows, total=len(whole.pixels), desc="evaluation", unit="picture", leave=False)
        ):
            errors.add(enlarge(low_res, caption, label, seed + i).numpy(), truth.numpy())
        found = {"psnr": errors.estimate(seed)}
        return line_of(found) | {"psnr_bicubic": bicubic.psnr}

    return evaluate


@dataclass(frozen=True)
class Pair:
    """A true large picture, uint8 [H,W,3], the small one, uint8 [h,w,3], and its caption."""

    small: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    caption: str


def scene_pairs(scenes: Iterable[Scene], config: ModelConfig) -> Iterator[Pair]:
    """Built-in scenes, each drawn at both sizes."""
    for scene in scenes:
        small, truth = (render([scene], size)[0] for size in (config.low_res_size, config.unet.image_size))
        yield Pair(small, truth, scene.caption)


def picture_pairs(pictures: PictureSet, config: ModelConfig) -> Iterator[Pair]:
    """Pictures of the upsampler's size, reduced by the mean of each block of pixels. InputError for broken ones."""
    size = (config.low_res_size, config.low_res_size)
    for place in range(len(pictures)):
        truth = pictures[place].pixels()
        small = np.array(Image.fromarray(truth).resize(size, Image.Resampling.BOX))
        yield Pair(small, truth, pictures.caption(place) or "")


def compare(
    pairs: Iterable[Pair],
    config: ModelConfig,
    enlarge: Enlarge,
    seed: int,
    captions: bool = True,
    reference: tuple[str, Enlarge] | None = None,
) -> Comparison:
    """Enlarge every small picture, picture i with the seed `seed + i`, and measure the errors.

    config: of the upsampler. captions: condition it on the captions, where it takes any. reference: the name and the
    function of another way to enlarge, with whose pictures the upsampler's are compared too.
    """
    size = config.unet.image_size
    errors = {name: Errors() for name in (*FILTERS, "upsampler")}
    rows: list[list[NDArray[np.uint8]]] = []
    seconds = 0.0
    for index, pair in enumerate(pairs):
        small, truth = pair.small, pair.truth
        found = {name: filtered(small, size, name) for name in FILTERS}
        caption = pair.caption if captions and config.reads_captions else ""
        start = time.perf_counter()
        found["upsampler"] = enlarge(torch.from_numpy(small), caption, seed + index).numpy()
        seconds += time.perf_counter() - start
        for name, pixels in found.items():
            errors[name].add(pixels, truth)
        if reference is not None:
            name, by_reference = reference
            pixels = by_reference(torch.from_numpy(small), caption, seed + index).numpy()
            errors.setdefault(name, Errors()).add(found["upsampler"], pixels)
        squares = small.repeat(config.scale, 0).repeat(config.scale, 1)
        rows.append([squares, found["bicubic"], found["upsampler"], truth])
    return Comparison(errors, rows, seconds)
