"""Compare sets of pictures in the features of one network: figures, memorisation, the best and the worst pictures.

Shape letters: N generated pictures, M real ones, F features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from guidance.clip.pretrained import load_any_clip
from toolkit.evaluation.bootstrap import Estimate
from toolkit.evaluation.extraction import Extracted
from toolkit.evaluation.features import CLIPS, Features
from toolkit.evaluation.frechet_distance import Gaussian
from toolkit.evaluation.image_evaluation import (
    Figure,
    against_statistics,
    caption_figure,
    class_figures,
    figures,
    kernel_subsets,
)
from toolkit.evaluation.memorisation import Memorisation, memorisation
from toolkit.evaluation.picture_sets import PictureSet
from toolkit.evaluation.precision_recall import K, realism
from toolkit.evaluation.sample_size import too_small

NEIGHBORS = 3
"""Nearest training pictures that are shown."""


@dataclass
class Sets:
    """The sets of a comparison. held_out: of the real pictures, those that were not trained on."""

    generated: PictureSet
    data: PictureSet | None
    held_out: PictureSet | None = None
    statistics: dict[str, Gaussian] = field(default_factory=dict)
    """In place of data, by the name of the features."""


@dataclass
class Comparison:
    """The result in one feature space."""

    features: Features
    generated: Extracted
    data: Extracted | None
    held_out: Extracted | None
    figures: list[Figure] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    subsets: dict[str, float] = field(default_factory=dict)
    """The kernel distance over subsets."""
    copies: Memorisation | None = None
    realism: NDArray[np.float64] | None = None
    """Of each generated picture, [N]."""
    clip_scores: NDArray[np.float64] | None = None
    """[N]."""

    def record(self) -> dict[str, Any]:
        """All figures, JSON-able."""
        found: dict[str, Any] = {
            "name": self.features.name,
            "fingerprint": self.features.fingerprint,
            "width": self.features.width,
            "size": self.features.size,
            "figures": {
                one.name: {
                    "label": one.label,
                    "better": one.better,
                    **asdict(one.generated),
                    "real": None if one.real is None else asdict(one.real),
                }
                for one in self.figures
            },
            "warnings": self.warnings,
        }
        if self.subsets:
            found["kernel_distance_over_subsets"] = self.subsets
        if (copies := self.copies) is not None:
            found["memorisation"] = {
                "found": copies.found,
                "near": asdict(copies.near),
                "nearer": asdict(copies.nearer),
                "limit": copies.limit,
            }
        return found


def compare(
    sets: Sets,
    features: Features,
    generated: Extracted,
    data: Extracted | None,
    held_out: Extracted | None,
    resamples: int,
    seed: int,
) -> Comparison:
    """All figures of features that were extracted. InputError for statistics of other features, and captions that the
    CLIP cannot read."""
    result = Comparison(features, generated, data, held_out)
    x = generated.features
    if data is None:
        result.figures = [against_statistics(x, sets.statistics[features.name], features, seed)]
        result.warnings = too_small(len(x), len(x), features.width)[:1]
    else:
        y, new = data.features, None if held_out is None else held_out.features
        result.figures = figures(x, y, new, features, resamples, seed)
        result.subsets = kernel_subsets(x, y, seed)
        result.warnings = too_small(len(x), len(y), features.width, None if new is None else len(new))
        if new is not None:
            result.copies = memorisation(x, y, new, NEIGHBORS, resamples, seed)
        if len(y) > K:
            result.realism = realism(x, y)
    result.warnings += _sizes(generated, data, features)
    if generated.probabilities is not None:
        real = None if held_out is None else held_out.probabilities
        labels = _labels(sets.generated, generated, features)
        result.figures += class_figures(generated.probabilities, labels, real, features, resamples, seed)
    if features.kind in CLIPS:
        _caption_fit(result, sets, resamples, seed)
    return result


def _sizes(generated: Extracted, data: Extracted | None, features: Features) -> list[str]:
    """Warnings of sets whose pictures are mostly of different sizes, as scaling changes their sharpness, and of those
    that are squeezed into squares."""
    sets = [one for one in (generated, data) if one is not None]
    usual = [max(one.sizes, key=lambda size: one.sizes[size]) for one in sets]
    squeezed = [sum(n for (w, h), n in one.sizes.items() if w != h) for one in sets]
    found = [
        f"{' and '.join(map(str, squeezed))} pictures are not square, and squeezed into {features.size} by as many "
        "in all sets alike: compare sets of the same shapes, or give --image-size to cut all to one"
    ]
    found = found if any(squeezed) else []
    if len(set(usual)) < 2:
        return found
    named = [f"{width}x{height}" for width, height in usual]
    return [
        *found,
        f"the pictures of {generated.name} are mostly {named[0]} and those of {data.name if data else ''} {named[1]}, "
        f"each scaled to {features.size}x{features.size}: give --image-size to bring them to one size first",
    ]


def _labels(pictures: PictureSet, found: Extracted, features: Features) -> NDArray[np.int64] | None:
    """The class of each picture among the network's, [N], -1 for one without; None where no name is the network's."""
    number = {name: i for i, name in enumerate(features.class_names)}
    if not number or not set(pictures.class_names) & set(number):
        return None
    names = pictures.class_names
    labels = [pictures.label(place) for place in found.places]
    return np.array([-1 if label is None else number.get(names[label], -1) for label in labels], np.int64)


def _caption_fit(result: Comparison, sets: Sets, resamples: int, seed: int) -> None:
    """Add the CLIP score, where all pictures have captions."""
    captions = _captions(sets.generated, result.generated)
    if captions is None:
        result.warnings.append(
            f"the CLIP score is left out, as pictures of {sets.generated.name} have no captions: write a .txt "
            "beside each"
        )
        return
    clip = load_any_clip(result.features.name.partition(":")[2], result.features.device)
    real = None
    if sets.held_out is not None and result.held_out is not None:
        own = _captions(sets.held_out, result.held_out)
        real = None if own is None else (result.held_out.features, _embedded(clip, own))
    figure, result.clip_scores = caption_figure(
        result.generated.features, _embedded(clip, captions), real, resamples, seed
    )
    result.figures.append(figure)


def _captions(pictures: PictureSet, found: Extracted) -> list[str] | None:
    captions = [pictures.caption(place) for place in found.places]
    whole = [caption for caption in captions if caption]
    return whole if len(whole) == len(captions) else None


def _embedded(clip: Any, captions: Sequence[str]) -> NDArray[np.float32]:
    """Embeddings [N,E] of captions, in parts."""
    parts = [
        clip.embed_captions(captions[i : i + 64]).float().cpu().numpy() for i in range(0, len(captions), 64)
    ]
    found: NDArray[np.float32] = np.concatenate(parts)
    return found


def table(comparison: Comparison) -> str:
    """The figures as text for the screen."""
    lines = [f"{comparison.features.name}: {len(comparison.generated)} pictures"]
    if comparison.data is not None:
        lines[0] += f" against {len(comparison.data)}"
    width = max(len(one.label) for one in comparison.figures)
    for one in comparison.figures:
        beside = "" if one.real is None else f"   real: {one.real}"
        lines.append(f"  {one.label:{width}} {_shown(one.generated)}{beside}".rstrip())
    if (copies := comparison.copies) is not None:
        said = "found" if copies.found else "not found"
        lines.append(
            f"  memorisation {said}: {_percent(copies.near)} nearer to a training picture than 95% of the"
        )
        lines.append("  held-out pictures are (5% of new pictures are)")
    return "\n".join(lines)


def _shown(one: Estimate) -> str:
    return f"{one!s:34}"


def _percent(one: Estimate) -> str:
    between = "" if one.low is None or one.high is None else f" ({one.low:.1%} to {one.high:.1%})"
    return f"{one.value:.1%}{between}"
