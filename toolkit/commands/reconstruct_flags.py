"""Encode and decode pictures: PSNR, SSIM and the worst files of an autoencoder, with pairs side by side.

examples:
    python scripts/reconstruct.py photos/ --autoencoder runs/autoencoder
    python scripts/reconstruct.py "shards/{0000..0009}.tar" --autoencoder stabilityai/sd-vae-ft-mse --pictures 500
    python scripts/reconstruct.py shapes --autoencoder runs/autoencoder --image-size 64 --out outputs/shapes

Pictures keep their own size. For the built-in scenes, the oracle also says which share of their facts is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from glide.utils.numbers import Range


@dataclass(frozen=True)
class Reconstruct:
    """The flags."""

    data: Annotated[Positional[str], arg(metavar="PICTURES")]
    """A folder of pictures, WebDataset shards ("shards/{0000..0999}.tar"), or shapes: held-out scenes."""
    autoencoder: Annotated[str, arg(metavar="NAME")]
    """The autoencoder: a folder, an embedded name or a hub id, also of an AutoencoderKL or AutoencoderTiny of
    diffusers."""
    pictures: int | None = None
    """Measure at most so many pictures, chosen by --seed. By default all; 256 scenes."""
    held_out: float = 0.0
    """Measure this share of stored pictures, which a training with the same --held-out left out."""
    image_size: Annotated[int, Range(16, 16384)] = 128
    """Height and width of the built-in scenes. Stored pictures keep their own."""
    worst: int = 8
    """Pictures that are named, and written beside their originals, those of the lowest PSNR first."""
    all: bool = False
    """Write every picture beside its original, not only the worst."""
    seed: int = 0
    """Chooses the pictures of --pictures, and is the seed of built-in scenes."""
    device: str = "auto"
    """auto: a GPU where there is one. Or cpu, cuda, cuda:1, ..."""
    out: Path = Path("outputs/reconstruct")
    """Receives reconstruct.json, with the figures of each picture, and the pairs as PNG."""
    overwrite: bool = False
    """Replace results that are already in the folder --out."""
