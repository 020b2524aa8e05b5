"""Compare guidances: the share of captions drawn right against the diversity of the pictures, as a table and a plot.

examples:
    python scripts/guidance_sweep.py --model shapes
    python scripts/guidance_sweep.py --guidance cfg --guidance cfg@200-700 --guidance apg --scales 2 3 5 --captions 500
    python scripts/guidance_sweep.py --model runs/photos --data photos/ --held-out 0.1 --captions 1000
    python scripts/guidance_sweep.py --guidance none --guidance cfg:3+pag:1 --guidance cfg:3+cads:0.1 --no-plot
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import UseAppendAction, arg

from guidance.options import DEFAULT_OPTIONS
from toolkit.commands import shared_flags as shared
from toolkit.commands.judged_flags import JudgedSweep

USUAL_LINES = ("none", "cfg", "cfg@200-800", "apg")


@dataclass(frozen=True)
class Sweep(JudgedSweep):
    """The flags."""

    captions: int = 200
    """Number of held-out captions (or of pictures of all classes): the share drawn right is the fidelity."""
    guidance: Annotated[
        tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][~SHAPE][@FROM-TO][+...]")
    ] = ()
    """As in the sample command; repeat the flag for several lines of the plot. Without SCALE it is run at all
    --scales. Join several at once by +. By default none, cfg, cfg@200-800 and apg."""
    scales: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0, 8.0)
    """Strengths of the guidances that are written without one."""
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    best_of: int = 1
    """Over 1: draw this many pictures of each held-out caption, and judge the one that fits it best by --clip (as
    --rerank of the sample command)."""
    ask: Literal["caption", "class"] = "caption"
    """class: draw without captions; --guidance classifier gives the class, and only the class is judged."""
    open_captions: int = 15
    """Number of captions that leave position, size or colour of a thing open."""
    pictures: int = 8
    """Pictures of each open caption (or class), among which the diversity is measured."""
    out: Path = Path("outputs/sweep")
    """Receives sweep.csv, sweep.png and, for each point, pictures of the open captions, a row for each."""
