"""Hard negatives: captions of built-in scenes that are wrong in one fact, for evaluation and training.

K wrong captions for each picture.
"""

from __future__ import annotations

import numpy as np

from glide.data.datasets import Batch, Dataset, GeneratedData
from glide.data.wrappers import Wrapped
from glide.shapes.scene import VALUES, Fact, Scene, write_caption
from glide.utils.errors import InputError

HARD_NEGATIVES_SALT = 0x3806  # separates these random numbers from all others of the same (seed, step)


def change_fact(scene: Scene, kind: str, rng: np.random.Generator) -> str | None:
    """The scene's caption with another value for one fact of that kind; None if it states no such fact."""
    stated = [
        fact for fact in scene.facts if fact.kind == kind and not (kind == "count" and scene.kind != "count")
    ]
    if not stated:
        return None
    old = stated[int(rng.integers(len(stated)))]
    others = [value for value in VALUES[kind] if value != old.value]
    new = Fact(kind, others[int(rng.integers(len(others)))], old.thing)
    return write_caption(tuple(new if fact is old else fact for fact in scene.facts))


def wrong_captions(scene: Scene, count: int, rng: np.random.Generator) -> list[str]:
    """`count` captions, each wrong in one fact: every kind of fact in turn, in random order.

    Every caption states a shape, so there are always some; one may occur twice.
    """
    found: list[str] = []
    while len(found) < count:
        kinds = rng.permutation(list(VALUES)).tolist()
        found += [wrong for kind in kinds if (wrong := change_fact(scene, kind, rng)) is not None]
    return found[:count]


class WithHardNegatives(Wrapped[GeneratedData]):
    """Built-in scenes whose batches also hold "wrong": for each picture a list of K captions that are nearly right.

    A batch is a pure function of (seed, step), as without them.
    """

    def __init__(self, data: Dataset, seed: int, count: int) -> None:
        """count: K. InputError for other data, whose wrong captions are unknown."""
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
        # of the whole batch: all rows share one generator
        wrong = [wrong_captions(scene, self.count, rng) for scene in scenes]
        return {**self.data.batch(step, size, rows), "wrong": [wrong[row] for row in wanted]}
