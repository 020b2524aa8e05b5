"""Captions of built-in scenes that are wrong in one fact: to measure by, and to learn from.

K wrong captions for each picture.
"""

from __future__ import annotations

import numpy as np

from glide.data.datasets import Batch, Dataset, GeneratedData
from glide.data.wrappers import Wrapped
from glide.shapes.scene import VALUES, Fact, Scene, write_caption
from glide.utils.errors import InputError

HARD_NEGATIVES_SALT = 0x3806  # sets these random numbers apart from all others of the same (seed, step)


def changed(scene: Scene, kind: str, rng: np.random.Generator) -> str | None:
    """The scene's caption with another value for one fact of that kind; None where it says none that can change."""
    said = [
        fact for fact in scene.facts if fact.kind == kind and not (kind == "count" and scene.kind != "count")
    ]
    if not said:
        return None
    old = said[int(rng.integers(len(said)))]
    others = [value for value in VALUES[kind] if value != old.value]
    new = Fact(kind, others[int(rng.integers(len(others)))], old.thing)
    return write_caption(tuple(new if fact is old else fact for fact in scene.facts))


def wrong_captions(scene: Scene, count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions, each wrong in one fact: of every kind that the caption says in turn, in random order.

    Every caption says a shape, so there always are some; one may come twice.
    """
    found: list[str] = []
    while len(found) < count:
        kinds = rng.permutation(list(VALUES)).tolist()
        found += [wrong for kind in kinds if (wrong := changed(scene, kind, rng)) is not None]
    return found[:count]


class WithHardNegatives(Wrapped[GeneratedData]):
    """Built-in scenes whose batches also hold "wrong": for each picture a list of K captions that are nearly right.

    A batch is a pure function of (seed, step), as it was without them.
    """

    def __init__(self, data: Dataset, seed: int, count: int) -> None:
        """count: K. InputError for other data, of whose captions nobody knows what would be wrong."""
        if not isinstance(data, GeneratedData):
            raise InputError(
                "got wrong captions to learn from for pictures of a folder, expected the built-in scenes, of which it "
                "is known what would be wrong: leave them out, or give the data 'shapes'"
            )
        super().__init__(data)
        self.seed, self.count = seed, count

    def batch(self, step: int, size: int, rows: range | None = None) -> Batch:
        wanted = range(size) if rows is None else rows
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(HARD_NEGATIVES_SALT, step)))
        scenes = self.data.shapes.scenes(step, size)
        wrong = [
            wrong_captions(scene, self.count, rng) for scene in scenes
        ]  # of all: their numbers come in turn
        return {**self.data.batch(step, size, rows), "wrong": [wrong[row] for row in wanted]}
