"""Diversity and colourfulness of the pictures of one caption: strong guidance lowers the first and raises the second.

Pictures of one caption of one thing are compared in what the caption leaves open: where the thing is (nine positions),
how large it is (three sizes), its colour (twelve) and the background's (six), as the oracle reads them. The diversity
in one of these is the probability that two pictures of the caption differ in it: 0 where all are alike, 1 where no two
are. A caption's diversity is the mean over what it leaves open; only pictures that are right count, so that errors
are no variety.

Shape letters: N pictures, H W pixels.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from glide.shapes.oracle import Reading, read_scene
from glide.shapes.scene import Fact, Scene

OPEN = ("position", "size", "color", "background")


def free(facts: Iterable[Fact]) -> tuple[str, ...]:
    """The kinds of `OPEN` that a caption of one thing leaves open."""
    said = {fact.kind for fact in facts}
    return tuple(kind for kind in OPEN if kind not in said)


def differing(values: Sequence[Hashable]) -> float:
    """The share of pairs whose values differ, 0 to 1: one minus Simpson's index. NaN for fewer than two."""
    n = len(values)
    if n < 2:
        return math.nan
    return 1.0 - sum(k * (k - 1) for k in Counter(values).values()) / (n * (n - 1))


def look(reading: Reading) -> dict[str, str | None]:
    """Facts of the largest thing of a picture, by the kinds of `OPEN`; empty where there is none."""
    if not reading.things:
        return {}
    thing = max(reading.things, key=lambda found: found.radius)
    found = {"position": thing.position, "size": thing.size, "color": thing.color}
    return {**found, "background": reading.background}


@dataclass
class Spread:
    """Collects the pictures of captions; `of` is NaN for what was never open, or never drawn right twice."""

    by_kind: dict[str, list[float]] = field(default_factory=lambda: {kind: [] for kind in OPEN})
    by_caption: list[float] = field(default_factory=list)
    pictures: int = 0
    """Number of pictures that were compared with another."""

    def add(self, facts: Iterable[Fact], readings: Sequence[Reading]) -> None:
        """The right pictures of one caption."""
        looks = [look(reading) for reading in readings if reading.things]
        shares = {kind: differing([seen[kind] for seen in looks]) for kind in free(facts)}
        known = {kind: share for kind, share in shares.items() if not math.isnan(share)}
        for kind, share in known.items():
            self.by_kind[kind].append(share)
        if known:
            self.pictures += len(looks)
            self.by_caption.append(mean(known.values()))

    def of(self, kind: str) -> float:
        """Mean over captions of the diversity in one of `OPEN`, 0 to 1."""
        return mean(self.by_kind[kind])

    @property
    def all(self) -> float:
        """Mean over captions, 0 to 1."""
        return mean(self.by_caption)


def of_data(scenes: Sequence[Scene]) -> dict[str, float]:
    """The diversity of the data itself in each of `OPEN`, among scenes of one thing whose captions leave it open."""
    seen: dict[str, list[str | None]] = {kind: [] for kind in OPEN}
    for scene in scenes:
        is_like = look(read_scene(scene))
        for kind in free(scene.facts):
            seen[kind].append(is_like[kind])
    return {kind: differing(values) for kind, values in seen.items()}


def saturation(pixels: Tensor) -> float:
    """Mean of (max - min) / 255 over the colours of each pixel: 0 is gray, 1 pure. pixels: uint8 [N,H,W,3]."""
    return float((pixels.amax(dim=-1).float() - pixels.amin(dim=-1).float()).mean() / 255)


def mean(values: Iterable[float]) -> float:
    """NaN of none."""
    found = list(values)
    return sum(found) / len(found) if found else math.nan
