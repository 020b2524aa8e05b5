"""Check a data set: what is usable, what is broken and why, how large the pictures are, and a captioned contact sheet.

examples:
    python scripts/check_data.py --data photos/ --sheet photos.png
    python scripts/check_data.py --data "shards/{0000..0999}.tar" --report report.json --write-index
    python scripts/check_data.py --data shapes:pair --sheet shapes.png --pictures 24
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from glide.data.skipped_files import MAX_BROKEN
from glide.utils.numbers import Range


@dataclass(frozen=True)
class CheckData:
    """The flags."""

    data: str
    """WebDataset shards ("shards/{0000..0999}.tar"), a folder of captioned pictures or of class folders, idx:FOLDER,
    hf:NAME, or shapes."""
    sheet: Path | None = None
    """Write a contact sheet to this file: a PNG of pictures with their captions."""
    pictures: int = 48
    """Pictures on the contact sheet, chosen by --seed."""
    size: int = 128
    """Height and width of a picture on the contact sheet."""
    buckets: Annotated[int | None, Range(8, 16384)] = None
    """Also say how the pictures fall into the aspect buckets around a square of this side, as a training with --buckets
    would put them."""
    multiple: Annotated[int, Range(1, 16384)] = 16
    """(buckets) Number of which their sides are multiples: 16 for shapes-64, 8 for shapes-32, a preset's own otherwise,
    times the autoencoder's factor for a model of latents."""
    seed: int = 0
    """Chooses the pictures of the contact sheet, and is the seed of built-in scenes."""
    report: Path | None = None
    """Write all findings to this file, as JSON: every broken picture with its reason."""
    list: int = 20
    """Broken pictures that are named on the screen, at most."""
    unconditional: bool = False
    """Take all pictures, with or without a caption or class, as a training with this flag does."""
    max_broken: float = MAX_BROKEN
    """Share of broken pictures that a training would accept; more is an error here too."""
    write_index: bool = False
    """For shards: keep their indices beside them, so that no other machine has to read the headers again."""
    workers: int = 4
    """Threads that read and decode."""
    overwrite: bool = False
    """Replace a contact sheet or a report that exists already."""
