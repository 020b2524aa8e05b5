"""Figures of a set of pictures against real ones in one feature space, each with its interval.

Held-out real pictures, which stand in for a perfect model, are measured in the same way: no figure is good or bad by
itself, only beside theirs.

Shape letters: N generated pictures, M real ones, F features, K classes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from toolkit.evaluation.bootstrap import RESAMPLES, Estimate, around, mean_of, picked
from toolkit.evaluation.class_accuracy import class_accuracy
from toolkit.evaluation.clip_score import clip_scores
from toolkit.evaluation.cmmd import cmmd_estimate
from toolkit.evaluation.density_coverage import K as BALLS
from toolkit.evaluation.density_coverage import densities_and_covered
from toolkit.evaluation.features import CLIPS, INCEPTION, SPATIAL, Features
from toolkit.evaluation.frechet_distance import Gaussian, Moments, frechet_distance, frechet_estimate
from toolkit.evaluation.inception_score import inception_score_estimate
from toolkit.evaluation.kernel_distance import over_subsets
from toolkit.evaluation.mmd import cubic, mmd2_estimate
from toolkit.evaluation.precision_recall import on_manifold
from toolkit.evaluation.sliced_wasserstein import MOST, sliced_wasserstein_estimate

Rows = NDArray[np.float32]
FRECHET_NAMES = {INCEPTION: "FID", SPATIAL: "sFID"}
FEWER = 40
"""Resamples of the Fréchet and sliced Wasserstein distances of larger sets, which take up to a second each."""
LARGE = 400


@dataclass(frozen=True)
class Figure:
    """One figure of the generated pictures, and the same of held-out real ones where there are any."""

    name: str
    """In evaluation.json."""
    label: str
    better: Literal["lower", "higher"]
    generated: Estimate
    real: Estimate | None = None


def figures(
    generated: Rows,
    data: Rows,
    held_out: Rows | None,
    features: Features,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Figure]:
    """All figures of features [N,F] against [M,F]. held_out: features of real pictures, for the second column.

    Only Inception's distances bear its name (FID, sFID, KID), and only CLIP's CMMD. Figures that need more
    pictures than there are, are left out.
    """
    own = _distances(generated, data, features, resamples, seed)
    if held_out is None or len(held_out) < 2:
        return own
    real = {one.name: one.generated for one in _distances(held_out, data, features, resamples, seed)}
    return [replace(one, real=real.get(one.name)) for one in own]


def frechet_name(features: Features) -> str:
    """FID and sFID of Inception's features; of others just a Fréchet distance."""
    return FRECHET_NAMES.get(features.kind, "Fréchet distance")


def _distances(x: Rows, y: Rows, features: Features, resamples: int, seed: int) -> list[Figure]:
    fewer = min(resamples, FEWER) if max(len(x), len(y)) > LARGE else resamples
    found = [
        Figure(
            "frechet_distance",
            frechet_name(features),
            "lower",
            frechet_estimate(x, y, fewer, seed),
        ),
        Figure(
            "kernel_distance",
            "KID" if features.kind == INCEPTION else "kernel distance",
            "lower",
            mmd2_estimate(x, y, cubic, True, resamples, seed),
        ),
    ]
    if features.kind in CLIPS:
        found.append(Figure("cmmd", "CMMD", "lower", cmmd_estimate(x, y, resamples, seed)))
    if min(len(x), len(y)) <= MOST:
        sliced = sliced_wasserstein_estimate(x, y, fewer, seed)
        found.append(Figure("sliced_wasserstein", "sliced Wasserstein distance", "lower", sliced))
    if min(len(x), len(y)) > BALLS:
        held, covered = densities_and_covered(x, y)
        found += [
            Figure(name, name, "higher", mean_of(values, resamples, seed))
            for name, values in (
                ("precision", on_manifold(x, y)),
                ("recall", on_manifold(y, x)),
                ("density", held),
                ("coverage", covered),
            )
        ]
    return found


def against_statistics(x: Rows, statistics: Gaussian, features: Features, seed: int = 0) -> Figure:
    """The Fréchet distance of features [N,F] from statistics of a file. InputError for those of other features."""

    def distance(rows: Rows) -> float:
        return frechet_distance(Moments.of([rows], rows.shape[1]).gaussian(), statistics)

    value = distance(x)
    replicates = np.array([distance(x[rows]) for rows in picked(len(x), FEWER, seed)])
    return Figure("frechet_distance", frechet_name(features), "lower", around(value, replicates).within(0.0))


def class_figures(
    probabilities: Rows,
    labels: NDArray[np.int64] | None,
    real: Rows | None,
    features: Features,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Figure]:
    """Inception score and class accuracy of class probabilities [N,K]. labels [N]: -1 for pictures without a class."""
    label = "inception score" if features.kind == INCEPTION else f"class score of {features.name}"
    score: Callable[[Rows], Estimate] = lambda p: inception_score_estimate(p, resamples, seed)
    found = [
        Figure("class_score", label, "higher", score(probabilities), None if real is None else score(real))
    ]
    if labels is not None and (known := labels >= 0).any():
        right = class_accuracy(probabilities[known], labels[known])
        found.append(Figure("class_accuracy", "class accuracy", "higher", mean_of(right, resamples, seed)))
    return found


def caption_figure(
    images: Rows, captions: Rows, real: tuple[Rows, Rows] | None, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Figure, NDArray[np.float64]]:
    """The CLIP score of embeddings of pictures and captions, [N,E] each, and that of each picture, [N]."""
    scores = clip_scores(images, captions)
    own = None if real is None else mean_of(clip_scores(*real), resamples, seed)
    return Figure("clip_score", "CLIP score", "higher", mean_of(scores, resamples, seed), own), scores


def kernel_subsets(x: Rows, y: Rows, seed: int = 0) -> dict[str, float]:
    """The kernel distance as papers report it: mean and deviation over subsets."""
    size = min(1000, len(x) // 2, len(y) // 2)
    if size < 2:
        return {}
    subsets = 50
    mean, deviation = over_subsets(x, y, subsets, size, seed)
    return {"mean": mean, "deviation": deviation, "subsets": subsets, "size": size}
