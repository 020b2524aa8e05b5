"""Check published models on a machine with a connection: fetch them, draw fixed captions and classes, write hashes and
pictures that can be committed.

examples:
    python scripts/verify_published.py glide glide-upsampler --out verified
    python scripts/verify_published.py adm-64 classifier-64 --out verified-adm --device cuda
    python scripts/verify_published.py all --remove --out verified-all
    python scripts/verify_published.py glide --out here --against verified/verified.json

Written are a sheet of pictures for each model, and verified.json: of each model its files with length and SHA-256, a
fingerprint of the converted weights, and of each picture the SHA-256 of its pixels and a thumbnail of 4x4 pixels. An
upsampler enlarges what its base model draws; a classifier or CLIP guides the model of its size. The names:
scripts/cache.py available.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from glide.utils.dtype import DType
from glide.utils.numbers import Range

ALL = "all"


@dataclass(frozen=True)
class VerifyPublished:
    """The flags."""

    names: Annotated[tuple[str, ...], Positional] = ("glide", "adm-64")
    """The published models, or all."""
    out: Path = Path("verified")
    """Folder for the report and the sheets."""
    against: Path | None = None
    """A verified.json of another machine: files and weights have to be the same, thumbnails nearly so."""
    steps: Annotated[int, Range(1, 1000)] = 25
    """Steps of the sampler for each picture."""
    pictures: Annotated[int, Range(1, 4)] = 4
    """Pictures of each model."""
    device: str | None = None
    """cpu, cuda, cuda:1, mps. By default a GPU where there is one."""
    dtype: DType = "float32"
    """Number type of the networks: float32 can be compared best."""
    remove: bool = False
    """Remove each model from the cache once it is checked, if it was not there before: all of them take 30 GB."""
    overwrite: bool = False
    """Replace earlier results in the folder."""
