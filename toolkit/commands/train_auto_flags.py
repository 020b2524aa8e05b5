"""Train a model on pictures of one's own: look at them, choose, train in stages, measure, and write a report.

examples:
    python scripts/train_auto.py photos/ --hours 3
    python scripts/train_auto.py photos/ --hours 3 --plan-only
    python scripts/train_auto.py photos/ --hours 1 --init none --size 32 --out runs/small

photos/ holds x.png with x.txt beside it, or a captions.csv or metadata.jsonl naming them, or a folder per class, or
pictures alone; or give WebDataset shards. The same command goes on with a training that was interrupted.
docs/own-pictures.md is the guide.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from glide.utils.dtype import AUTO, DType


@dataclass(frozen=True)
class TrainAuto:
    """The flags."""

    data: Annotated[Positional[str], arg(metavar="PICTURES")]
    """A folder of pictures, captioned or in class folders or alone, or WebDataset shards ("shards/{00..99}.tar")."""
    hours: float = 1.0
    """Time for all of it on this machine, the report included."""
    out: Path = Path("runs/auto")
    """Folder of the stages, of the model (model/), and of report.html and report.md."""
    plan_only: bool = False
    """Say what would be trained and why, write nothing."""
    init: str | None = None
    """Model to begin with: emoji, shapes, a folder, or none for a start from scratch. By default it is chosen."""
    size: Literal[32, 64] | None = None
    """Pixels of the base model's pictures. By default chosen by the time."""
    upsampler: Literal["yes", "no"] | None = None
    """Also train an upsampler to four times the size. By default where pictures and time allow it."""
    flip: bool = False
    """Mirror pictures at random, which doubles them; not for letters, faces of clocks, or captions that say "left"."""
    judge: str = "efficientnet-lite0"
    """Features in which pictures are compared, as --features of the evaluate_images command."""
    seed: int = 0
    dtype: DType = AUTO
    """Type that the networks compute in."""
    device: str | None = None
    """cpu, cuda, cuda:1, ...; a GPU where there is one."""
