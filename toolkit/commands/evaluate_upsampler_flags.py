"""Measure an upsampler: PSNR of enlarged small pictures against true large ones, beside bicubic and Lanczos.

examples:
    python scripts/evaluate_upsampler.py --model shapes
    python scripts/evaluate_upsampler.py --model runs/shapes-upsampler --pictures 50 --respacing 10
    python scripts/evaluate_upsampler.py --model runs/photos-upsampler --data photos/ --held-out 0.1
    python scripts/evaluate_upsampler.py --pictures 50 --sampler ddim --respacing fast27 --reference-steps 200

How much of their captions a cascade's pictures show: scripts/evaluate.py --upsampler NAME.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from glide.utils.dtype import AUTO, DType
from toolkit.commands.judged_flags import Kinds


@dataclass(frozen=True)
class EvaluateUpsampler:
    """The flags."""

    model: Annotated[str, arg(metavar="NAME")] = "shapes"
    """The upsampler: a folder, an embedded or published name, a published .pt file or a hub id."""
    data: Annotated[str | None, arg(metavar="PICTURES")] = None
    """Pictures of one's own, a folder or shards, cut to squares of the upsampler's size and reduced. By default
    held-out built-in scenes, drawn at both sizes."""
    held_out: float = 0.0
    """(data) Take this share alone, which a training with the same --held-out left out."""
    pictures: int = 200
    """Largest number of pictures."""
    kinds: Kinds = ("one", "count", "pair")
    """Kinds of built-in scenes."""
    respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Sampling steps ("16", "fast27", "ddim50"). By default as in the sample command."""
    sampler: Annotated[str | None, arg(metavar="NAME")] = None
    """As --upsample-sampler of the sample command."""
    spacing: Annotated[str | None, arg(metavar="NAME")] = None
    """As --upsample-spacing of the sample command."""
    reference_steps: int | None = None
    """Also compare with the pictures of this many steps of the default sampler, from the same noise: the loss by fewer
    steps alone."""
    temp: float = 1.0
    """Multiplies the noise that a picture starts from."""
    noise: float = 0.0
    """Noise that is added to a picture before it is enlarged, 0 to below 1."""
    captions: bool = True
    """Condition the upsampler on the captions of the pictures."""
    seed: int = 0
    """Seed of the scenes, or of the choice of pictures; picture i, counted from 0, has the seed SEED + i."""
    dtype: DType = AUTO
    device: str = "auto"
    """auto: a GPU where there is one. Or cpu, cuda, cuda:1, ..."""
    out: Path = Path("outputs/evaluate-upsampler")
    """Receives psnr.json and a picture: small, bicubic, enlarged and true, side by side."""
    overwrite: bool = False
    """Replace results that are already in the folder --out."""
