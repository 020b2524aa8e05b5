"""Warnings where a sample is too small for what is asked of it, with the numbers."""

from __future__ import annotations

from toolkit.evaluation.memorisation import FEWEST
from toolkit.evaluation.precision_recall import K

FRECHET = 10
"""Pictures for each feature from which the bias of the Fréchet distance is small beside itself."""
NEIGHBORS = 50
"""Pictures for each neighbour from which the balls of precision and recall are small."""


def too_small(generated: int, real: int, width: int, held_out: int | None = None) -> list[str]:
    """Sentences about figures that so few pictures cannot give well. width: number of features."""
    found, smaller = [], min(generated, real)
    if smaller <= width:
        found.append(
            f"the Fréchet distance of {smaller} pictures with {width} features has singular covariances and is far too "
            f"large: compare it only with sets of the same sizes, or read the kernel distance, or give over {width} "
            "pictures"
        )
    elif smaller < FRECHET * width:
        found.append(
            f"the Fréchet distance of {smaller} pictures with {width} features is too large by its bias: compare it "
            f"only with sets of the same sizes, or give {FRECHET * width} pictures"
        )
    if smaller < NEIGHBORS * K:
        found.append(
            f"precision, recall, density and coverage of {smaller} pictures are rough, as their balls are large: give "
            f"{NEIGHBORS * K} or more"
        )
    if held_out is not None and held_out < FEWEST:
        found.append(
            f"{held_out} held-out pictures cannot say what 5% of them are: hold out {FEWEST} or more to find "
            "memorisation"
        )
    return found
