"""Measure drawing from maps: are things where the map of a built-in scene has them, in the colours of the caption?

examples:
    python scripts/evaluate_conditions.py --model runs/map
    python scripts/evaluate_conditions.py --model runs/map --scenes 300 --colors changed
    python scripts/evaluate_conditions.py --model runs/map --scenes 100 --word-scales 1 3 5 --picture-scales 1 1.5 3
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from toolkit.commands.judged_flags import JudgedPictures


@dataclass(frozen=True)
class EvaluateConditions(JudgedPictures):
    """The flags. Every strength of the words is measured with every one of the picture."""

    scenes: int = 300
    """Number of held-out scenes."""
    colors: Literal["own", "changed"] = "own"
    """Colours in the captions: those of the scene that the map was made of, or others."""
    word_scales: tuple[float, ...] = (3.0,)
    """Strengths of the caption (cfg)."""
    picture_scales: tuple[float, ...] = (1.0,)
    """Strengths of the map (picture)."""
    out: Path = Path("outputs/evaluate-conditions")
    """Receives conditions.md, and pictures that are right and that are wrong, each beside its map."""
