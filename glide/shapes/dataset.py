"""The built-in data set `shapes`: captioned scenes, drawn on demand at any resolution.

    data = Shapes(seed=0, image_size=64)
    batch = data.batch(step=0, size=16)      # {"image": [16, 3, 64, 64] in [-1, 1], "caption": 16 texts}

scene.py holds the language, render.py the drawing, and oracle.py reads pictures back.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from glide.shapes.render import render
from glide.shapes.scene import (
    BACKGROUNDS,
    COLORS,
    COUNTS,
    KINDS,
    OUTER_RADIUS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPOKEN_SIZES,
    Fact,
    Noun,
    Scene,
    Thing,
    make_facts,
    parse_caption,
    write_caption,
)
from glide.utils.errors import InputError

__all__ = ["Fact", "Scene", "Shapes", "Thing", "captions_for_tokenizer", "held_out_scenes"]
__all__ += ["parse_caption", "render", "sample_scene", "write_caption"]

T = TypeVar("T")

MIXTURE = (*KINDS, "inside")
"""Possible parts of a mixture: the kinds of scene, and pairs of which one thing is inside the other.

These are a fifth of all pairs, and take the most pictures to learn.
"""

MARGIN = 0.02  # between a thing and the picture's edge
GAP = 0.04  # between two things
SAY_COLOR, SAY_SIZE, SAY_POSITION, SAY_BACKGROUND = (
    0.9,
    0.7,
    0.65,
    0.5,
)  # probability that a caption states it

# Sizes that fit into an outer shape so that both are visible. Only small things fit into a diamond or a ring's hole.
INNER_SIZES = {
    "circle": ("small", "medium"),
    "square": ("small", "medium"),
    "diamond": ("small",),
    "ring": ("small",),
}


def _distance(a: Sequence[int], b: Sequence[int]) -> float:
    return sum((i - j) ** 2 for i, j in zip(a, b, strict=True)) ** 0.5


# Colours that are well visible on each background: never its own colour, nor a similar one.
VISIBLE_COLORS = {
    name: tuple(color for color, rgb in COLORS.items() if _distance(rgb, ground) >= 115)
    for name, ground in BACKGROUNDS.items()
}


class _Draws:
    """Random choices from one block of uniform numbers: one call of the slow generator per scene."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._numbers = iter(rng.random(40).tolist())  # a scene takes at most 25

    def chance(self, probability: float) -> bool:
        return next(self._numbers) < probability

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * next(self._numbers)

    def pick(self, options: Sequence[T]) -> T:
        return options[int(next(self._numbers) * len(options))]

    def weighted(self, options: Sequence[str], weights: Sequence[float]) -> str:
        rest = next(self._numbers) * sum(weights)
        for option, weight in zip(options, weights, strict=True):
            rest -= weight
            if rest < 0:
                return option
        return options[-1]


_Drawn = tuple[tuple[Thing, ...], tuple[Fact, ...]]


def sample_scene(
    rng: np.random.Generator, kinds: Sequence[str] = KINDS, weights: Sequence[float] | None = None
) -> Scene:
    """A random scene with its caption. kinds: some of MIXTURE; weights: one for each of them, else equal."""
    draws = _Draws(rng)
    kind = draws.weighted(kinds, weights or [1.0] * len(kinds))
    background = draws.pick(tuple(BACKGROUNDS))
    stated_background = background if draws.chance(SAY_BACKGROUND) else None
    drawers: dict[str, Callable[[_Draws, str, str | None], _Drawn]]
    drawers = {"one": _one, "count": _count, "pair": _pair, "inside": partial(_pair, relation="inside")}
    things, facts = drawers[kind](draws, background, stated_background)
    return Scene(things, background, "pair" if kind == "inside" else kind, write_caption(facts), facts)


def _noun(draws: _Draws, thing: Thing) -> Noun:
    """The noun phrase of a thing: a random part of its properties."""
    says_size, says_color = draws.chance(SAY_SIZE), draws.chance(SAY_COLOR)
    size = thing.size if says_size and thing.size in SPOKEN_SIZES else None
    return size, thing.color if says_color else None, thing.shape


def _one(draws: _Draws, background: str, stated_background: str | None) -> _Drawn:
    shape, color = draws.pick(SHAPES), draws.pick(VISIBLE_COLORS[background])
    size, position = draws.pick(tuple(SIZES)), draws.pick(tuple(POSITIONS))
    radius = draws.between(*SIZES[size])
    x, y = (_in_cell(draws, cell, radius) for cell in POSITIONS[position])
    thing = Thing(shape, color, size, x, y, radius)
    stated_position = position if draws.chance(SAY_POSITION) else None
    noun = _noun(draws, thing)
    return (thing,), make_facts(1, [noun], position=stated_position, background=stated_background)


def _in_cell(draws: _Draws, cell: int, radius: float) -> float:
    """A random coordinate near the low edge, the middle or the high edge (cell 0, 1, 2)."""
    if cell == 1:
        return draws.between(0.46, 0.54)
    low = max(radius + MARGIN, 0.19)
    from_edge = draws.between(low, max(low, 0.24) + 0.02)
    return from_edge if cell == 0 else 1 - from_edge


# Places of equal things: one of the layouts for their number. Each point is the centre of a free cell that is half the
# picture wide and high.
_CORNERS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75))
LAYOUTS = {
    2: (((0.25, 0.5), (0.75, 0.5)), ((0.5, 0.25), (0.5, 0.75)), _CORNERS[::3], _CORNERS[1:3]),
    3: tuple(tuple(point for point in _CORNERS if point != left_out) for left_out in _CORNERS),
    4: (_CORNERS,),
}


def _count(draws: _Draws, background: str, stated_background: str | None) -> _Drawn:
    number = draws.pick(tuple(COUNTS.values()))
    shape, color = draws.pick(SHAPES), draws.pick(VISIBLE_COLORS[background])
    size = draws.pick(tuple(SIZES))
    radius = draws.between(*SIZES[size])
    play = min(0.25 - radius - MARGIN, 0.05)
    things = tuple(
        Thing(shape, color, size, x + draws.between(-play, play), y + draws.between(-play, play), radius)
        for x, y in draws.pick(LAYOUTS[number])
    )
    return things, make_facts(number, [_noun(draws, things[0])], background=stated_background)


def _pair(
    draws: _Draws, background: str, stated_background: str | None, relation: str | None = None
) -> _Drawn:
    """relation: one of RELATIONS; by default any."""
    relation = relation or draws.pick(RELATIONS)
    colors = VISIBLE_COLORS[background]
    color = draws.pick(colors)
    other_color = draws.pick([c for c in colors if c != color])
    inside = relation == "inside"
    first, second = (_inside if inside else _side_by_side)(draws, relation, color, other_color)
    nouns = [_noun(draws, first), _noun(draws, second)]
    facts = make_facts(2, nouns, relation=relation, background=stated_background)
    return (second, first), facts  # the outer thing of "inside" is drawn before the inner one


def _inside(draws: _Draws, relation: str, color: str, other_color: str) -> tuple[Thing, Thing]:
    shape, outer_shape = draws.pick(SHAPES), draws.pick(tuple(INNER_SIZES))
    size = draws.pick(INNER_SIZES[outer_shape])
    radius, outer_radius = draws.between(*SIZES[size]), draws.between(*OUTER_RADIUS)
    x, y = draws.between(0.4, 0.6), draws.between(0.4, 0.6)
    inner = Thing(shape, color, size, x, y, radius)
    return inner, Thing(outer_shape, other_color, "large", x, y, outer_radius)


def _side_by_side(draws: _Draws, relation: str, color: str, other_color: str) -> tuple[Thing, Thing]:
    """First and second thing of a relation along one axis: placed left to right, then turned."""
    shape, other_shape = draws.pick(SHAPES), draws.pick(SHAPES)
    size, other_size = draws.pick(tuple(SIZES)), draws.pick(tuple(SIZES))
    low_radius, high_radius = draws.between(*SIZES[size]), draws.between(*SIZES[other_size])
    low_radius, high_radius = (
        (low_radius, high_radius) if relation in ("to the left of", "above") else (high_radius, low_radius)
    )
    middle = 0.5 + (low_radius - high_radius) / 2  # the centre of the gap
    across = draws.between(0.35, 0.65)
    spare = min(middle - 2 * low_radius, 1 - middle - 2 * high_radius) - MARGIN - GAP / 2
    low = middle - GAP / 2 - low_radius - draws.between(0.2, 0.9) * min(spare, 0.12)
    high = middle + GAP / 2 + high_radius + draws.between(0.2, 0.9) * min(spare, 0.12)
    low_across, high_across = across + draws.between(-0.04, 0.04), across + draws.between(-0.04, 0.04)
    points = [(low, low_across, low_radius), (high, high_across, high_radius)]
    if relation in ("above", "below"):
        points = [(y, x, radius) for x, y, radius in points]
    if relation in ("to the right of", "below"):
        points.reverse()
    return Thing(shape, color, size, *points[0]), Thing(other_shape, other_color, other_size, *points[1])


class Shapes:
    """The data set: an endless supply of scenes; the batch of a step is a pure function of its arguments.

    kinds, weights: some of MIXTURE and their relative frequencies; by default the KINDS with equal ones.
    split: "train" or "held_out"; they share no scene, for any seeds.
    InputError for an invalid argument.
    """

    def __init__(
        self,
        seed: int = 0,
        image_size: int = 64,
        kinds: Sequence[str] = KINDS,
        weights: Sequence[float] | None = None,
        split: str = "train",
    ) -> None:
        _check_kinds(kinds, weights)
        if split not in ("train", "held_out"):
            raise InputError(f"split {split!r}: expected 'train' or 'held_out'")
        if seed < 0:
            raise InputError(f"seed {seed}: expected a number from 0")
        self.seed, self.image_size, self.split = seed, image_size, split
        self.kinds, self.weights = tuple(kinds), tuple(weights) if weights else None

    @classmethod
    def parse_spec(
        cls, spec: str, seed: int = 0, image_size: int = 64, split: Literal["train", "held_out"] = "train"
    ) -> "Shapes":
        """ "shapes" (all kinds), "shapes:one" or "shapes:one=1,count=2,pair=3" (kinds with their weights)."""
        name, colon, rest = spec.partition(":")
        if name != "shapes" or (colon and not rest):
            raise InputError(
                f"data {spec!r}: expected 'shapes', 'shapes:one' or 'shapes:one=1,count=2,pair=3'"
            )
        weights: dict[str, float] = {}
        for part in rest.split(",") if rest else KINDS:
            kind, equals, weight = part.strip().partition("=")
            try:
                weights[kind] = float(weight) if equals else 1.0
            except ValueError:
                raise InputError(f"data {spec!r}: {weight!r} is not a weight; write '{kind}=2'") from None
        return cls(seed, image_size, tuple(weights), tuple(weights.values()), split)

    def scenes(self, step: int, size: int) -> list[Scene]:
        """The `size` scenes of a step: the first ones of the step's endless list."""
        split = ("train", "held_out").index(self.split)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(split, step)))
        return [sample_scene(rng, self.kinds, self.weights) for _ in range(size)]

    def batch(self, step: int, size: int, rows: range | None = None) -> dict[str, Any]:
        """{"image": uint8 [size, 3, H, W], "caption": list of str}, the same on every call.

        rows: the rows to draw, out of `size`.
        """
        scenes = self.scenes(step, size)
        scenes = scenes if rows is None else [scenes[row] for row in rows]
        image = torch.from_numpy(render(scenes, self.image_size)).permute(0, 3, 1, 2)
        return {"image": image, "caption": [scene.caption for scene in scenes]}

    def captions_for_tokenizer(self) -> list[str]:
        """Captions with every word of the language."""
        return captions_for_tokenizer()


def _check_kinds(kinds: Sequence[str], weights: Sequence[float] | None) -> None:
    strange = [kind for kind in kinds if kind not in MIXTURE]
    if strange or not kinds:
        raise InputError(f"kinds of scene {list(kinds)}: expected some of {', '.join(MIXTURE)}")
    if weights is None:
        return
    if len(weights) != len(kinds) or not all(0 <= w < float("inf") for w in weights) or sum(weights) == 0:
        raise InputError(f"weights {list(weights)}: expected one from 0 for each of {list(kinds)}, not all 0")


def held_out_scenes(
    n: int, kinds: Sequence[str] = KINDS, seed: int = 0, weights: Mapping[str, float] | None = None
) -> list[Scene]:
    """n scenes for evaluation, which no training run uses, for any seed."""
    shares = [weights.get(kind, 0.0) for kind in kinds] if weights else None
    return Shapes(seed=seed, kinds=kinds, weights=shares, split="held_out").scenes(0, n)


def captions_for_tokenizer() -> list[str]:
    """A fixed list of captions with every word of the language, about as frequent as in the data."""
    rng = np.random.default_rng(0)  # enough captions for every word; a test checks it
    return [sample_scene(rng).caption for _ in range(2000)]
