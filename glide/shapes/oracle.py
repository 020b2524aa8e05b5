"""An oracle that reads a picture of the data set `shapes` and decides which facts of a caption hold in it.

    judged = Oracle().judge(picture, "a large red circle to the left of a small blue square")
    judged.all_right, [(fact.kind, fact.value, right) for fact, right in judged.verdicts]

It knows the language and the shapes, not the scene: it finds regions of one colour (oracle_segment.py), compares each
with drawings of the eight shapes (oracle_shape_fit.py), and looks up the facts in the result. It is strict: a thing too
many or too few makes the fact "count" wrong, whatever the caption. On 1000 held-out renderings, at 64 and at 256, it
made no error; oracle_error.py measures that.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from glide.shapes.oracle_segment import (
    SIDE,
    SPECK,
    Array,
    Picture,
    Regions,
    filled,
    find_regions,
    grown,
    shrunk,
)
from glide.shapes.oracle_shape_fit import fit_shape
from glide.shapes.scene import COLORS, COUNTS, POSITIONS, SIZES, Fact, Scene, parse_caption

MIN_OVERLAP = 0.70  # a region that overlaps less with every shape has no shape
MAX_COLOR_DISTANCE = 75.0  # levels of RGB distance from a named colour, beyond which a colour has no name
MAX_THINGS = 16  # the largest ones are read; no caption states more than four
CELL_EDGES = (0.36, 0.64)  # between the columns, and the rows, of the nine positions


@dataclass(frozen=True)
class Found:
    """A thing in a picture. x, y, radius are shares of its side; shape or color None: no known one is close.

    inside: index, in the reading, of the smallest thing that encloses it.
    """

    shape: str | None
    color: str | None
    x: float
    y: float
    radius: float
    inside: int | None = None
    overlap: float = 1.0

    @property
    def size(self) -> str:
        """ "small", "medium" or "large"."""
        edges = [(SIZES[a][1] * SIZES[b][0]) ** 0.5 for a, b in (("small", "medium"), ("medium", "large"))]
        return list(SIZES)[sum(self.radius > edge for edge in edges)]

    @property
    def position(self) -> str:
        """Its position as a phrase of POSITIONS."""
        cell = tuple(sum(at > edge for edge in CELL_EDGES) for at in (self.x, self.y))
        return next(phrase for phrase, place in POSITIONS.items() if place == cell)


@dataclass(frozen=True)
class Reading:
    """The contents of a picture. background None: no known one is close."""

    things: tuple[Found, ...]
    background: str | None


@dataclass(frozen=True)
class Judgement:
    """The verdict on each fact of a caption, and the reading of the picture."""

    verdicts: tuple[tuple[Fact, bool], ...]
    reading: Reading

    @property
    def all_right(self) -> bool:
        return all(right for _, right in self.verdicts)


class Oracle:
    """Reads and judges pictures of any size from 16 pixels; they are read at 64 x 64."""

    def read(self, picture: Picture) -> Reading:
        """Read a picture: uint8 [H, W, 3], or a float tensor [3, H, W] in [-1, 1], H = W.

        InputError for anything else.
        """
        return _read(find_regions(picture))

    def judge(self, picture: Picture, caption: str | Sequence[Fact]) -> Judgement:
        """Judge the facts of a caption; InputError for a text that is not of the grammar."""
        return judge_reading(self.read(picture), caption)


def judge_reading(reading: Reading, caption: str | Sequence[Fact]) -> Judgement:
    """Judge the facts of a caption for these things.

    The noun phrases are matched with the things so that as many facts hold as possible; among equal matches the one
    whose earlier facts hold is used.
    """
    facts = tuple(parse_caption(caption) if isinstance(caption, str) else caption)
    if any(fact.kind == "count" and fact.value in COUNTS.values() for fact in facts) and not any(
        fact.kind == "relation" for fact in facts
    ):
        right = tuple(_holds_for_all(fact, reading) for fact in facts)
    else:
        nouns = 1 + max(fact.thing for fact in facts)
        spare: list[Found | None] = [None] * nouns  # a noun phrase may have no match
        matches = permutations([*reading.things, *spare], nouns)
        right = max((tuple(_holds(f, reading, m) for f in facts) for m in matches), key=lambda r: (sum(r), r))
    return Judgement(tuple(zip(facts, right, strict=True)), reading)


def _holds_for_all(fact: Fact, reading: Reading) -> bool:
    if fact.kind in ("count", "background"):
        return _holds(fact, reading, ())
    return bool(reading.things) and all(_holds(fact, reading, (thing,)) for thing in reading.things)


def _holds(fact: Fact, reading: Reading, match: tuple[Found | None, ...]) -> bool:
    """match: the thing for each noun phrase."""
    if fact.kind == "count":
        return len(reading.things) == fact.value
    if fact.kind == "background":
        return reading.background == fact.value
    if fact.kind == "relation":
        first, second = match
        return first is not None and second is not None and _relation(first, second, reading) == fact.value
    thing = match[fact.thing]
    return thing is not None and getattr(thing, fact.kind) == fact.value


def _relation(first: Found, second: Found, reading: Reading) -> str | None:
    if first.inside is not None and reading.things[first.inside] is second:
        return "inside"
    if second.inside is not None and reading.things[second.inside] is first:
        return None  # "around" is not of the grammar
    dx, dy = second.x - first.x, second.y - first.y
    if abs(dx) > abs(dy):
        return "to the left of" if dx > 0 else "to the right of"
    return "above" if dy > 0 else "below"


def read_scene(scene: Scene) -> Reading:
    """The true reading of a scene's picture."""
    inside = "inside" in [fact.value for fact in scene.facts]  # then the inner thing is the second one
    return Reading(
        tuple(
            Found(t.shape, t.color, t.x, t.y, t.radius, inside=0 if inside and index == 1 else None)
            for index, t in enumerate(scene.things)
        ),
        scene.background,
    )


def _read(regions: Regions) -> Reading:
    owned = _things(regions)
    fills = [filled(mask) for mask in owned]
    parents = [_parent(index, owned, fills) for index in range(len(owned))]
    found = [_look(index, owned, fills, parents, regions) for index in range(len(owned))]
    return Reading(tuple(found), regions.background)


def _things(regions: Regions) -> list[Array]:
    """The pixels of each thing, as masks [H, W].

    A region is a thing unless it is background, or is visible through a ring on a thing of the same colour: then it is
    part of that thing.
    """
    labels, ids = regions.labels, regions.ids
    numbers, areas = np.unique(ids[labels != 0], return_counts=True)
    largest = np.sort((-areas).argsort(kind="stable")[:MAX_THINGS])  # the first among equal ones
    masks = [ids == number for number in numbers[largest]]
    fills = [filled(mask) for mask in masks]
    owner = list(range(len(masks)))
    for inner, mask in enumerate(masks):
        around = [
            outer
            for outer, fill in enumerate(fills)
            if outer != inner and fill[mask].all() and labels[masks[outer]][0] == labels[mask][0]
        ]
        if around:
            owner[inner] = min(around, key=lambda outer: int(fills[outer].sum()))
    whole = [mask.copy() for mask in masks]
    for inner, outer in enumerate(owner):
        if outer != inner:
            whole[outer] |= masks[inner]
    return [whole[index] for index in range(len(masks)) if owner[index] == index]


def _parent(index: int, owned: list[Array], fills: list[Array]) -> int | None:
    around = [i for i, fill in enumerate(fills) if i != index and fill[owned[index]].all()]
    return min(around, key=lambda i: int(fills[i].sum()), default=None)


def _color(pixels: Array, mask: Array, around: Array) -> Array:
    """The colour of a thing: of its inner pixels or, if it is too thin, of its most distinct ones."""
    core = shrunk(mask)
    if core.sum() < SPECK:
        contrast = np.linalg.norm(pixels - around, axis=-1)
        core = mask & (contrast >= np.quantile(contrast[mask], 0.7))
    return np.median(pixels[core], axis=0)


def _look(
    index: int, owned: list[Array], fills: list[Array], parents: list[int | None], regions: Regions
) -> Found:
    """Name the shape, colour and place of one thing."""
    mask, fill, pixels = owned[index], fills[index], regions.pixels
    beside = regions.labels[grown(fill) & ~fill]
    around_label = int(np.bincount(beside).argmax()) if len(beside) else 0
    around = regions.palette[around_label]
    color = _color(pixels, mask, around)
    # Position of each pixel on the line from the surrounding colour to its own: the share of the pixel that it covers.
    line = color - around
    cover = np.clip((pixels - around) @ line / max(float(line @ line), 1.0), 0, 1).astype(np.float32)
    # Only its own pixels and those around it show its shape; other things may hide it or stand beside it.
    informative = mask | (regions.labels == around_label)
    weight = (~grown(~informative)).astype(np.float32)
    fit = fit_shape(cover, weight, mask)
    distances = {name: float(np.linalg.norm(color - rgb)) for name, rgb in COLORS.items()}
    name = min(distances, key=lambda n: distances[n])
    return Found(
        shape=fit.shape if fit.overlap >= MIN_OVERLAP else None,
        color=name if distances[name] < MAX_COLOR_DISTANCE else None,
        x=fit.x / SIDE,
        y=fit.y / SIDE,
        radius=fit.radius / SIDE,
        inside=parents[index],
        overlap=fit.overlap,
    )
