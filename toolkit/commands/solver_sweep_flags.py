"""Compare samplers: captions drawn right and distance to a long run, against network calls, as tables and a plot.

examples:
    python scripts/solver_sweep.py --model shapes
    python scripts/solver_sweep.py --solver heun@karras --solver dpmpp-2m@log-snr --solver unipc --calls 8 12 16 20
    python scripts/solver_sweep.py --model runs/photos --data photos/ --solver ddim --solver dpmpp-2m --captions 1000
    python scripts/solver_sweep.py --solver ddpm:250 --solver dpmpp-2m-sde --captions 500 --no-plot
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from glide.utils.dtype import AUTO, DType
from guidance.options import DEFAULT_OPTIONS
from toolkit.commands import shared_flags as shared
from toolkit.commands.judged_flags import JudgedSweep


@dataclass(frozen=True)
class SolverSweep(JudgedSweep):
    """The flags."""

    captions: int = 200
    """Number of held-out captions: the share drawn right is the accuracy."""
    solver: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:CALLS][@SPACING]")] = ()
    """A sampler, with its spacing, as in the sample command; repeat the flag for several lines of the plot. Without
    CALLS it is run at all --calls. By default every sampler with its usual spacing, and ddpm:250."""
    calls: tuple[int, ...] = (5, 8, 10, 15, 20, 30, 50)
    """Network calls for a picture: each sampler takes as many steps as they allow."""
    steps: int = 1000
    """Steps of the reference, with whose pictures of the same noise all others are compared."""
    sampler: Annotated[str, arg(metavar="NAME")] = "ddim"
    """Sampler of the reference: one that adds no noise at its steps."""
    spacing: Annotated[str | None, arg(metavar="NAME")] = None
    """Spacing of the reference."""
    eta: float = 0.0
    """Noise that the reference adds at its steps: 0."""
    guidance: Annotated[tuple[str, ...], UseAppendAction, arg(metavar="NAME[:SCALE][~SHAPE][@FROM-TO]")] = (
        "cfg",
    )
    """Guidance of all points, as in the sample command."""
    scale: float | None = None
    """Strength of the guidances that are written without one. By default each one's usual strength."""
    guiding: shared.GuidanceOptions = DEFAULT_OPTIONS
    dtype: DType = AUTO
    """Type that the network computes in; distances show the rounding of other types than float32."""
    out: Path = Path("outputs/solver-sweep")
    """Receives solvers.csv, solvers.md, solvers.png and, for each point, its first pictures."""
