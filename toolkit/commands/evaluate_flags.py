"""Measure prompt fidelity: draw held-out captions of the built-in scenes, and let the oracle judge them.

examples:
    python scripts/evaluate.py --model shapes
    python scripts/evaluate.py --model runs/shapes --captions 200 --kinds one --scales 3 --steps 25
    python scripts/evaluate.py --model shapes --scales 3 --upsampler shapes
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from toolkit.commands.judged_flags import JudgedRun


@dataclass(frozen=True)
class Evaluate(JudgedRun):
    """The flags."""

    scales: tuple[float, ...] = (1.0, 2.0, 3.0, 5.0)
    """Classifier-free guidance scales; 1 is none."""
    upsampler: Annotated[str | None, arg(metavar="NAME")] = None
    """Enlarge each picture by this upsampler, and judge it large too: a folder, an embedded name or a hub id."""
    upsample_respacing: Annotated[str | None, arg(metavar="SPEC")] = None
    """Steps of the upsampler ("16", "fast27"); by default as in the sample command."""
    upsample_noise: float = 0.0
    """Noise that is added to each picture before it is enlarged, 0 to below 1."""
    out: Path = Path("outputs/evaluate")
    """Receives evaluate.csv, evaluate.md and, for each scale, pictures of right and of wrong captions."""
