"""Measure bits per dimension of pictures under a model (a bound on the negative log-likelihood).

examples:
    python scripts/nll.py --model shapes --images 32 --respacing 100
    python scripts/nll.py --model runs/photos --data photos/ --out nll.json
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Nll:
    """The flags."""

    model: str = "shapes"
    """A folder, an embedded or published name, a published OpenAI .pt, or a hub id."""
    data: str = "shapes"
    """As for training: shapes, WebDataset shards, a folder of captioned pictures, or one of class folders."""
    images: int = 64
    """Number of pictures."""
    batch_size: int = 16
    """Pictures in one network call."""
    respacing: str | None = None
    """Evaluate the shorter chain ("100", "fast27", ...); by default every training timestep."""
    variance: Literal["model", "learned", "fixed_small", "fixed_large"] = "model"
    """Variance of a step: model is the one that the model was trained for."""
    held_out: float = 0.0
    """Evaluate on this share of stored pictures, which a training with the same --held-out left out."""
    seed: int = 0
    """Seed of the order of the pictures; picture i, counted from 0, has the noise of SEED + i."""
    device: str = "cpu"
    """cpu, cuda, cuda:1, ..., or auto: a GPU where there is one."""
    out: Path | None = None
    """Write the figures to this file, per image and per timestep, as JSON."""
    overwrite: bool = False
    """Replace the file --out if it exists."""
