"""The language of the built-in data set: scenes, their facts, and captions written and parsed.

A caption is written from a tuple of facts and parsed into the same tuple, so that a model can be prompted with a text
and judged fact by fact:

    a large red circle to the left of a small blue square on a white background
    three small green stars
    an orange ring in the top left corner

Lengths are fractions of the picture's side; x runs to the right and y runs down.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from glide.utils.errors import InputError

KINDS = ("one", "count", "pair")

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "diamond", "heart")

# At least 100 levels of RGB distance between any two, so that a slightly wrong colour still has one name.
COLORS: dict[str, tuple[int, int, int]] = {
    "red": (230, 20, 25),
    "orange": (255, 125, 0),
    "yellow": (255, 230, 30),
    "green": (20, 160, 45),
    "cyan": (40, 215, 235),
    "blue": (20, 70, 235),
    "purple": (140, 25, 185),
    "pink": (255, 150, 205),
    "brown": (120, 65, 15),
    "black": (10, 10, 10),
    "white": (255, 255, 255),
    "gray": (128, 128, 128),
}

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": COLORS["white"],
    "black": COLORS["black"],
    "gray": COLORS["gray"],
    "beige": (225, 200, 150),
    "light blue": (160, 200, 245),
    "dark blue": (15, 25, 110),
}

# Radius: half the side of the square that holds the shape. "medium" is never stated: a size that the
# caption leaves out may be any. The outer thing of "inside" is larger than every other large thing.
SIZES: dict[str, tuple[float, float]] = {
    "small": (0.120, 0.128),
    "medium": (0.160, 0.170),
    "large": (0.212, 0.220),
}
OUTER_RADIUS = (0.305, 0.325)
SPOKEN_SIZES = ("small", "large")

POSITIONS = {  # phrase -> (column, row) of a 3 x 3 grid
    "in the top left corner": (0, 0),
    "at the top": (1, 0),
    "in the top right corner": (2, 0),
    "on the left": (0, 1),
    "in the center": (1, 1),
    "on the right": (2, 1),
    "in the bottom left corner": (0, 2),
    "at the bottom": (1, 2),
    "in the bottom right corner": (2, 2),
}

RELATIONS = ("to the left of", "to the right of", "above", "below", "inside")
COUNTS = {"two": 2, "three": 3, "four": 4}
FACT_KINDS = ("count", "size", "color", "shape", "position", "relation", "background")
VALUES: dict[str, tuple[str | int, ...]] = {
    "count": tuple(COUNTS.values()),
    "size": SPOKEN_SIZES,
    "color": tuple(COLORS),
    "shape": SHAPES,
    "position": tuple(POSITIONS),
    "relation": RELATIONS,
    "background": tuple(BACKGROUNDS),
}
"""The possible values of each kind of fact."""


@dataclass(frozen=True)
class Fact:
    """One statement of a caption.

    kind: one of FACT_KINDS.  value: the word, or for "count" the number of things in the whole picture.
    thing: the noun phrase it describes (0 or 1, in the order of the caption); 0 if it describes none.
    A fact about the things of "three red circles" holds for each of them.
    """

    kind: str
    value: str | int
    thing: int = 0


@dataclass(frozen=True)
class Thing:
    """A drawn object: (x, y) is the centre of its bounding square, and radius half of that square's side."""

    shape: str
    color: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Scene:
    """Things in drawing order (later ones on top), the background's name, and the caption with its facts.

    The facts are those of the caption, which often leaves some out.
    """

    things: tuple[Thing, ...]
    background: str
    kind: str
    caption: str
    facts: tuple[Fact, ...]


def caption_kind(facts: Sequence[Fact]) -> str:
    """The kind of scene, one of KINDS, that these facts describe."""
    if any(fact.kind == "relation" for fact in facts):
        return "pair"
    return "one" if all(fact.value == 1 for fact in facts if fact.kind == "count") else "count"


def write_caption(facts: Sequence[Fact]) -> str:
    """The caption that states exactly these facts; parse_caption is its inverse."""
    stated = {(fact.kind, fact.thing): fact.value for fact in facts}

    def noun(thing: int, plural: bool = False) -> str:
        shape = str(stated["shape", thing])
        words = [
            stated.get(("size", thing)),
            stated.get(("color", thing)),
            _plural(shape) if plural else shape,
        ]
        return " ".join(str(word) for word in words if word is not None)

    kind = caption_kind(facts)
    if kind == "count":
        number = next(word for word, value in COUNTS.items() if value == stated["count", 0])
        text = f"{number} {noun(0, plural=True)}"
    elif kind == "pair":
        text = f"{_article(noun(0))} {stated['relation', 0]} {_article(noun(1))}"
    else:
        text = _article(noun(0))
        if ("position", 0) in stated:
            text += f" {stated['position', 0]}"
    if ("background", 0) in stated:
        text += f" on {_article(str(stated['background', 0]))} background"
    return text


def _plural(shape: str) -> str:
    return shape + ("es" if shape.endswith("s") else "s")


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _either(words: Sequence[str]) -> str:
    return "|".join(words)


def _noun_pattern(shapes: Sequence[str]) -> str:
    return rf"(?:({_either(SPOKEN_SIZES)}) )?(?:({_either(tuple(COLORS))}) )?({_either(shapes)})"


_BACKGROUND = rf"(?: on an? ({_either(tuple(BACKGROUNDS))}) background)?"
_NOUN = rf"an? {_noun_pattern(SHAPES)}"
_ONE = re.compile(rf"{_NOUN}(?: ({_either(tuple(POSITIONS))}))?{_BACKGROUND}")
_PAIR = re.compile(rf"{_NOUN} ({_either(RELATIONS)}) {_NOUN}{_BACKGROUND}")
_COUNT = re.compile(rf"({_either(tuple(COUNTS))}) {_noun_pattern([_plural(s) for s in SHAPES])}{_BACKGROUND}")


def parse_caption(text: str) -> tuple[Fact, ...]:
    """The facts of a caption, in the order of the scene sampler.

    Case, spare blanks and a final full stop do not matter. InputError when the text is not of the grammar.
    """
    plain = " ".join(text.lower().split()).rstrip(".").rstrip()
    if match := _ONE.fullmatch(plain):
        size, color, shape, position, background = match.groups()
        return make_facts(1, [(size, color, shape)], position=position, background=background)
    if match := _PAIR.fullmatch(plain):
        size, color, shape, relation, *second, background = match.groups()
        nouns = [(size, color, shape), (second[0], second[1], second[2])]
        return make_facts(2, nouns, relation=relation, background=background)
    if match := _COUNT.fullmatch(plain):
        number, size, color, shapes, background = match.groups()
        shape = next(s for s in SHAPES if _plural(s) == shapes)
        return make_facts(COUNTS[number], [(size, color, shape)], background=background)
    strange = sorted(set(plain.split()) - vocabulary())
    reason = f"does not know {', '.join(map(repr, strange))}" if strange else "cannot build this sentence"
    raise InputError(
        f"caption {text!r}: the grammar of 'shapes' {reason}; it has captions like 'a small red circle "
        "on the left', 'three blue stars on a white background' or 'a red ring above a green heart'"
    )


Noun = tuple[str | None, str | None, str]  # size, color, shape; None if the caption leaves it out


def make_facts(
    count: int,
    nouns: Sequence[Noun],
    position: str | None = None,
    relation: str | None = None,
    background: str | None = None,
) -> tuple[Fact, ...]:
    """Facts in their canonical order, without those that are None."""
    facts = [Fact("count", count)]
    for thing, (size, color, shape) in enumerate(nouns):
        of_noun = (("size", size), ("color", color), ("shape", shape))
        facts += [Fact(kind, value, thing) for kind, value in of_noun if value is not None]
    whole = (("position", position), ("relation", relation), ("background", background))
    facts += [Fact(kind, value) for kind, value in whole if value is not None]
    return tuple(facts)


def vocabulary() -> set[str]:
    """Every word that a caption can hold."""
    phrases = [*SHAPES, *(_plural(s) for s in SHAPES), *COLORS, *BACKGROUNDS, *SPOKEN_SIZES]
    phrases += [*POSITIONS, *RELATIONS, *COUNTS, "a an on background"]
    return {word for phrase in phrases for word in phrase.split()}
