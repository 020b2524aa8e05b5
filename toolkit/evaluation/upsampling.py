"""How near an upsampler comes to the truth: true small renderings of the built-in scenes, enlarged, against true large
ones, beside what Pillow's filters make of them. What scripts/evaluate_upsampler.py does.

Shape letters: H W pixels, h w pixels of the low-resolution picture.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tyro.conf import arg

from glide.networks.config import ModelConfig
from glide.shapes.dataset import held_out_scenes
from glide.shapes.render import render
from glide.utils.atomic_write import write_text
from glide.utils.dtype import AUTO, DType
from glide.utils.images import grid, save_png
from glide.utils.printable import say
from glide.utils.progress import progress
from glide.utils.ranges import check_numbers
from glide.utils.results_folder import Results

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
NAMES = ("psnr.json", "side-by-side.png")
SHOWN = 8  # pictures side by side, those of the largest error first


@dataclass(frozen=True)
class EvaluateUpsampler:
    """Settings of the evaluation."""

    model: Annotated[str, arg(metavar="NAME")] = "shapes"
    """The upsampler: a folder, an embedded name, a published .pt file or a hub id."""
    pictures: int = 200
    """How many held-out scenes."""
    kinds: tuple[Literal["one", "count", "pair"], ...] = ("one", "count", "pair")
    respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Sampling steps ("16", "fast27", "ddim50"). By default as in sample.py."""
    sampler: Annotated[str | None, arg(metavar="NAME")] = None
    """As sample.py --upsample-sampler."""
    spacing: Annotated[str | None, arg(metavar="NAME")] = None
    """As sample.py --upsample-spacing."""
    reference_steps: int | None = None
    """Also measure how near the pictures come to those of so many steps of the usual sampler, from the same noise: what
    fewer steps lose, whatever the network knows."""
    temp: float = 1.0
    """Multiplies the noise that a picture begins with."""
    noise: float = 0.0
    """Noise that is added to a picture before it is enlarged, 0 to below 1."""
    captions: bool = True
    """Whether the upsampler is told what the pictures show."""
    seed: int = 0
    dtype: DType = AUTO
    device: str = "auto"
    out: Path = Path("outputs/evaluate-upsampler")
    """Receives psnr.json and a picture: small, bicubic, enlarged and true, side by side."""
    overwrite: bool = False
    """Replace results that are in the folder --out already."""

    def check(self) -> Results:
        """The results to be written. InputError for settings that do not fit, and for results that would be lost."""
        check_numbers(self)
        return Results(self.out, NAMES, self.overwrite)


@dataclass
class Errors:
    """Mean squared errors of pictures, in levels of 0 to 255."""

    squared: list[float] = field(default_factory=list)

    def add(self, pixels: NDArray[np.uint8], truth: NDArray[np.uint8]) -> None:
        difference = pixels.astype(np.float64) - truth
        self.squared.append(float((difference**2).mean()))

    @property
    def psnr(self) -> float:
        """Of all pictures together, in dB: of the mean of their squared errors."""
        return decibels(float(np.mean(self.squared)))

    @property
    def median(self) -> float:
        """The median of the pictures' own, in dB."""
        return decibels(float(np.median(self.squared)))


def decibels(squared: float) -> float:
    """PSNR of a mean squared error in levels of 0 to 255. What is equal counts as 120 dB, which no rounding gives."""
    return 10 * math.log10(255**2 / squared) if squared else 120.0


Enlarge = Callable[[Tensor, str, int], Tensor]
"""From uint8 [h,w,3], a caption and a seed to uint8 [H,W,3]."""


def evaluate_upsampler(
    args: EvaluateUpsampler, config: ModelConfig, enlarge: Enlarge, reference: Enlarge | None = None
) -> dict[str, Errors]:
    """Enlarge, compare, write the pictures and figures, print the table; returns the errors by method.

    config: of the upsampler. reference: what `enlarge` is compared with besides the truth. InputError for settings
    that do not fit.
    """
    results = args.check()
    size, scenes = config.unet.image_size, held_out_scenes(args.pictures, args.kinds, args.seed)
    errors = {name: Errors() for name in (*FILTERS, "upsampler")}
    rows: list[list[NDArray[np.uint8]]] = []
    seconds = 0.0
    with results:
        for index, scene in enumerate(progress(scenes, desc="enlarging", unit="picture")):
            small, truth = render([scene], config.low_res_size)[0], render([scene], size)[0]
            found = {name: filtered(small, size, name) for name in FILTERS}
            start = time.perf_counter()
            caption = scene.caption if args.captions and config.text is not None else ""
            found["upsampler"] = enlarge(torch.from_numpy(small), caption, args.seed + index).numpy()
            seconds += time.perf_counter() - start
            for name, pixels in found.items():
                errors[name].add(pixels, truth)
            if reference is not None:
                many = reference(torch.from_numpy(small), caption, args.seed + index).numpy()
                errors.setdefault(f"to {args.reference_steps} steps", Errors()).add(found["upsampler"], many)
            squares = small.repeat(config.scale, 0).repeat(config.scale, 1)
            rows.append([squares, found["bicubic"], found["upsampler"], truth])
        _write(results, errors, rows)
    say(
        f"{len(scenes)} pictures from {config.low_res_size} to {size}, {seconds / len(scenes):.2f} s each",
        result=True,
    )
    for name, error in errors.items():
        say(f"{name:10s} PSNR {error.psnr:6.2f} dB   median picture {error.median:6.2f} dB", result=True)
    gain = errors["upsampler"].psnr - max(errors[name].psnr for name in FILTERS)
    say(
        f"the upsampler is {gain:+.2f} dB from the better filter; pictures: {args.out.resolve()}", result=True
    )
    return errors


def filtered(pixels: NDArray[np.uint8], size: int, name: str) -> NDArray[np.uint8]:
    """uint8 [h,w,3] -> uint8 [size,size,3] by a filter of FILTERS."""
    return np.asarray(Image.fromarray(pixels).resize((size, size), FILTERS[name]))


def _write(results: Results, errors: dict[str, Errors], rows: list[list[NDArray[np.uint8]]]) -> None:
    figures: dict[str, Any] = {
        name: {"psnr": error.psnr, "median": error.median, "squared_errors": error.squared}
        for name, error in errors.items()
    }
    write_text(results.path("psnr.json"), json.dumps(figures, indent=1) + "\n")
    worst = sorted(range(len(rows)), key=lambda index: -errors["upsampler"].squared[index])[:SHOWN]
    sheet = np.stack([picture for index in worst for picture in rows[index]])
    save_png(results.path("side-by-side.png"), grid(sheet, columns=4))
