"""Choose the length of a run's weight average after its training (post-hoc EMA, 2312.02696).

examples:
    python scripts/train_base.py --data shapes:one --ema-snapshots 0.05 0.1 --steps 3000 --out runs/one
    python scripts/posthoc_ema.py --run runs/one --sigma-rel 0.07 --out runs/one-007
    python scripts/posthoc_ema.py --run runs/one --sigma-rel 0.15 --step 2000 --out runs/one-015

It works for classifiers and CLIPs too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Posthoc:
    """The flags."""

    run: Path
    """Folder of a run that was trained with --ema-snapshots."""
    out: Path
    """Folder of the model to write."""
    sigma_rel: float = 0.1
    """Relative width of the average: the standard deviation of its times, over the time trained."""
    step: int | None = None
    """Step of the snapshot at which the average ends; by default the last."""
    save_dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Type of the weights in the model folder."""
    overwrite: bool = False
    """Replace a model that is already in the folder."""
