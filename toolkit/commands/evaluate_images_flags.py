"""Compare two sets of pictures, or a model and its data: distances with intervals, and memorisation.

examples:
    python scripts/evaluate_images.py --generated outputs/ --data photos/
    python scripts/evaluate_images.py --model runs/photos --data photos/ --held-out 0.1 --pictures 500
    python scripts/evaluate_images.py --model shapes --data shapes --features classifier:shapes-shape
    python scripts/evaluate_images.py --generated outputs/ --data photos/ --cache features/ --part 3/64
    python scripts/evaluate_images.py --generated batch.npz --data "shards/{0000..0009}.tar" --features clip:clip/

Features are the space in which pictures are compared:
    efficientnet-lite0        pip install 'glide-toolkit[features]'
    inception:FILE            FID's own, pt_inception-2015-12-05-6726825d.pth of pytorch-fid's releases
    inception-spatial:FILE    sFID's, of the same file
    clip:NAME, dinov2:NAME    a folder or a hub id, of transformers
    classifier:NAME, noisy-clip:NAME    of this toolkit
docs/evaluation.md says what each figure sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from glide.diffusion.samplers.registry import OWN
from glide.utils.dtype import AUTO, DType
from glide.utils.errors import InputError
from glide.utils.numbers import Range
from glide.utils.parts import Part
from glide.utils.picture_size import parse_size
from glide.utils.ranges import check_numbers
from toolkit.commands import shared_flags as shared

PICTURES = 1000
"""Pictures that a model draws by default."""


@dataclass(frozen=True)
class EvaluateImages:
    """The flags. Give --generated or --model."""

    data: Annotated[str, arg(metavar="PICTURES")]
    """The real pictures: a folder, WebDataset shards, idx:FOLDER, hf:NAME, guided-diffusion's .npz (arr_0, or mu and
    sigma), or shapes."""
    generated: Annotated[str | None, arg(metavar="PICTURES")] = None
    """The pictures to be measured: a folder, shards, an .npz, or shapes (held-out scenes)."""
    model: Annotated[str | None, arg(metavar="NAME")] = None
    """Draw the pictures with this model, from the captions or classes of the data."""
    held_out: float = 0.0
    """Share of the data that a training with the same --held-out left out: shows what real pictures reach, and whether
    the model has memorised the others. Built-in scenes have held-out ones without it."""
    features: tuple[str, ...] = ("efficientnet-lite0",)
    """The networks in whose features pictures are compared, each by itself."""
    pictures: int | None = None
    """At most so many of each set, chosen by --seed. By default all; 1000 of a model and of built-in scenes."""
    image_size: Annotated[str | None, arg(metavar="WIDTHxHEIGHT")] = None
    """Cut and scale all pictures to this size first, as training does; one number is a square. By default a model's
    size; else none is cut, and pictures that are not square are squeezed into the square of the network that compares,
    those of all sets alike."""
    mixed: bool = False
    """Take sets in which transparent pictures stand beside others, and put these on white."""
    guidance: shared.GuidanceNames = ()
    """(model)"""
    steps: shared.Steps = None
    """(model) Sampling steps."""
    sampler: shared.SamplerName = OWN
    batch_size: int = 32
    """Pictures in one call of a network."""
    call_size: int | None = None
    """(model) Pictures in one network call that draws. By default as many as are drawn, up to 8 on a CPU and 32 on a
    GPU."""
    dtype: DType = AUTO
    device: shared.Device = "auto"
    resamples: Annotated[int, Range(10, 10_000)] = 200
    """Resamples of the pictures, from which the intervals come."""
    shown: Annotated[int, Range(0, 200)] = 16
    """Pictures of each kind on the page."""
    seed: int = 0
    """Seed of the choice of pictures, of resamples, of built-in scenes, and of a model's noise."""
    cache: Annotated[Path | None, arg(metavar="DIR")] = None
    """Keeps features by picture and network. By default --out, or $GLIDE_CACHE where it is set."""
    part: Annotated[str | None, arg(metavar="I/N")] = None
    """Only compute the features of the I-th of N parts of each set, and keep them in --cache, for many machines. The
    command without it then finds them there."""
    save_batch: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write the generated pictures as guided-diffusion's .npz (arr_0)."""
    save_statistics: Annotated[Path | None, arg(metavar="FILE")] = None
    """Also write mean and covariance of the data's first features as .npz (mu, sigma), and of inception-spatial beside
    them (mu_s, sigma_s)."""
    out: Path = Path("outputs/evaluate-images")
    """Receives evaluation.json, evaluation.html and, of a model, the pictures in generated/."""
    overwrite: bool = False
    """Replace results that are already in the folder --out."""

    def check(self) -> None:
        """Check all numbers, and that there is one set to be measured. InputError for others."""
        check_numbers(self)
        if self.image_size is not None:
            parse_size(self.image_size, "--image-size")
        if (self.generated is None) == (self.model is None):
            both = "both" if self.model is not None else "neither"
            raise InputError(f"got {both} of --generated and --model, expected one: give one of them")
        if not self.features:
            raise InputError(
                "got no --features, expected one or more: leave the flag out for efficientnet-lite0"
            )
        if self.held_out and self.data.startswith("shapes"):
            raise InputError("got --held-out with built-in scenes, which have held-out ones: leave it out")
        if self.part is not None:
            Part.parse(self.part)
            if self.cache is None or self.model is not None:
                raise InputError(
                    "got --part with --model or without --cache, expected pictures that are there and a folder for "
                    "their features: give --generated and --cache"
                )
        for path in (self.save_batch, self.save_statistics):
            if path is not None and path.suffix != ".npz":
                raise InputError(f"got the output {path}, expected a name that ends in .npz: rename it")
