"""Measure inpainting: "a green star in the top left corner" into a masked corner of built-in scenes, by the oracle.

examples:
    python scripts/evaluate_inpainting.py --model shapes
    python scripts/evaluate_inpainting.py --model runs/shapes-inpaint --scenes 300 --scale 2
    python scripts/evaluate_inpainting.py --model shapes --method replace --scenes 50 --steps 25
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.commands.judged_flags import JudgedPictures


@dataclass(frozen=True)
class EvaluateInpainting(JudgedPictures):
    """The flags."""

    scenes: int = 300
    """Number of scenes: half of them hold nothing but the background, half a thing that stays."""
    method: Literal["model", "repaint", "replace"] | None = None
    """As in the inpaint command: by default model where the model was trained to inpaint, else repaint."""
    scale: float = 3.0
    """Scale of classifier-free guidance; 1 is none."""
    out: Path = Path("outputs/evaluate-inpainting")
    """Receives inpainting.md, and pictures that are right and that are wrong."""
