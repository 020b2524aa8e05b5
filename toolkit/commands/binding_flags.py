"""Measure which facts of its captions a model of the built-in scenes uses, and at which noise levels.

examples:
    python scripts/binding.py --model shapes
    python scripts/binding.py --model runs/one --kinds one --timesteps 950 850 700 500 --out binding.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from glide.utils.dtype import AUTO, DType
from toolkit.commands.judged_flags import Kinds


@dataclass(frozen=True)
class Bind:
    """The flags."""

    model: str = "shapes"
    """A folder (a run in training, too), an embedded name or a hub id."""
    kinds: Kinds = ("one", "count", "pair")
    """Kinds of built-in scenes."""
    pictures: int = 128
    """Number of held-out scenes."""
    timesteps: tuple[int, ...] = (975, 925, 850, 750, 650, 500, 300)
    """Training timesteps at which the errors are measured."""
    dtype: DType = AUTO
    seed: int = 0
    """Seed of the scenes, of the wrong captions and of the noise."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, ..., or auto: a GPU where there is one."""
    out: Path | None = None
    """Write the errors themselves to this file, as JSON."""
    overwrite: bool = False
    """Replace the file --out if it exists."""
