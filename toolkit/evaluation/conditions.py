"""Fidelity to maps: the oracle judges whether things are where a map has them, in the colours of the caption.

Shape letters: N scenes, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations
from math import hypot

import numpy as np
import torch
from torch import Tensor

from glide.networks.image_request import ImageRequest, KnownPixels
from glide.shapes.dataset import VISIBLE_COLORS, held_out_scenes
from glide.shapes.oracle import Found, Oracle, Reading
from glide.shapes.render import label_maps
from glide.shapes.scene import Scene, Thing, make_facts, write_caption
from glide.utils.images import to_uint8
from toolkit.pipelines.pipeline import Pipeline
from toolkit.pipelines.settings import SamplingConfig

FAR = 0.05
"""Distance, as a share of the picture's side, from which on a thing is not where it should be."""
OTHER_SIZE = 0.25
"""Share by which a radius differs from the map's from which on a thing has another size."""
QUESTIONS = ("kinds", "places", "map", "colors", "all")
"""All things of the map are there, and no others; each lies where the map has it, as large as there; both; each has the
colour that the caption says; all of these."""


@dataclass(frozen=True)
class Case:
    """A scene whose map is given, and the caption beside it."""

    scene: Scene
    caption: str
    colors: tuple[str, ...]
    """Colour of each thing, in the scene's order."""

    def map(self, size: int) -> Tensor:
        """Class numbers, uint8 [1,H,W]."""
        return torch.from_numpy(label_maps([self.scene], size))


def cases(count: int, seed: int = 0, change_colors: bool = False) -> list[Case]:
    """Held-out scenes with captions that state each thing's shape and colour: its own, or another one.

    The colours of the scene of which a map was made are not in it, so a caption can change them. Other colours are
    visible on the scene's background, and differ from each other where the scene's do.
    """
    rng = np.random.default_rng((seed, 0xC0108))
    found = []
    for scene in held_out_scenes(count, seed=seed):
        own = list(dict.fromkeys(thing.color for thing in scene.things))
        new = own
        if change_colors:
            free = [color for color in VISIBLE_COLORS[scene.background] if color not in own]
            new = [free[i] for i in rng.permutation(len(free))[: len(own)].tolist()]
        colors = tuple(new[own.index(thing.color)] for thing in scene.things)
        found.append(Case(scene, _caption(scene, colors), colors))
    return found


def _caption(scene: Scene, colors: Sequence[str]) -> str:
    """All things of a scene by shape and colour, with their relation, and nothing else."""
    nouns = [(None, color, thing.shape) for thing, color in zip(scene.things, colors, strict=True)]
    if scene.kind == "pair":
        (relation,) = (str(fact.value) for fact in scene.facts if fact.kind == "relation")
        return write_caption(make_facts(2, nouns[::-1], relation=relation))  # the second one was drawn first
    return write_caption(make_facts(len(nouns), nouns[:1]))


@dataclass(frozen=True)
class Answer:
    """A drawn scene, uint8 [H,W,3], and for each of QUESTIONS whether it holds."""

    case: Case
    pixels: Tensor
    holds: dict[str, bool]


def judge(case: Case, reading: Reading) -> dict[str, bool]:
    """For each of QUESTIONS whether it holds in what the oracle has read.

    Of all ways to match the things that were read with those of the map, one that is right in most is taken.
    """
    things = case.scene.things
    if len(reading.things) != len(things):
        return dict.fromkeys(QUESTIONS, False)
    ways = [_agree_all(case, matched) for matched in permutations(reading.things)]
    best = max(ways, key=lambda holds: (sum(holds), holds))
    kinds, places, colors = best
    return {
        "kinds": kinds,
        "places": places,
        "map": kinds and places,
        "colors": colors,
        "all": kinds and places and colors,
    }


def _agree_all(case: Case, matched: Sequence[Found]) -> tuple[bool, ...]:
    """Kinds, places with sizes, and colours of all things, each read as the one that stands in its place."""
    agree = [_agree(*one) for one in zip(matched, case.scene.things, case.colors, strict=True)]
    return tuple(all(answers) for answers in zip(*agree, strict=True))


def _agree(found: Found, thing: Thing, color: str) -> tuple[bool, bool, bool]:
    """Kind, place with size, and colour of one thing."""
    near = hypot(found.x - thing.x, found.y - thing.y) < FAR
    return (
        found.shape == thing.shape,
        near and abs(found.radius / thing.radius - 1) < OTHER_SIZE,
        found.color == color,
    )


def draw_and_judge(
    pipe: Pipeline, found: Sequence[Case], settings: SamplingConfig, batch_size: int = 32, seed: int = 0
) -> Iterator[Answer]:
    """Each case drawn from its map and its caption (case i with seed `seed + i`), and judged."""
    oracle, size = Oracle(), pipe.model.config.picture_size
    for start in range(0, len(found), batch_size):
        part = found[start : start + batch_size]
        pictures = [
            ImageRequest(
                seed + start + i,
                case.caption,
                given=KnownPixels(conditions={"condition.map": case.map(size)}),
            )
            for i, case in enumerate(part)
        ]
        for step in pipe.draw(pictures, settings):
            last = step
        for case, pixels in zip(part, to_uint8(last.x), strict=True):
            yield Answer(case, pixels, judge(case, oracle.read(pixels.numpy())))


def shares(answers: Sequence[Answer]) -> dict[str, float]:
    """Share of the pictures in which each of QUESTIONS holds, 0 to 1."""
    return {question: sum(a.holds[question] for a in answers) / len(answers) for question in QUESTIONS}
